// What is known of one user.

import { Refused, ask } from "./api.js";
import { element, facts, follow, number, span, table, time } from "./elements.js";
import { bars, key, overview, sessionsOf } from "./timeline.js";

const WEIGHTS = {
  influence: ["influence", "how far the vector moves, as a share of its length, where the event is left out"],
  direct: ["direct path", "by what the item's vector is multiplied in the sum of the last items"],
  short: ["short attention", "what the short tower attends to at the newest event"],
  long: ["long attention", "what the long tower attends to at the newest event it reads"],
};

export class User {
  constructor(container) {
    this.container = container;
    this.asked = 0;
  }

  async show(userId) {
    this.asked += 1;
    const turn = this.asked;
    const isLatest = () => turn === this.asked;
    this.container.replaceChildren(element("p", {}, "asking …"));
    this.container.setAttribute("aria-busy", "true");
    try {
      const query = `id=${encodeURIComponent(userId)}`;
      const found = await ask(`user?${query}`);
      if (isLatest()) {
        this.container.replaceChildren(...parts(found));
        const items = await ask(`items?${query}`);
        if (isLatest()) {
          this.container.append(...nearest(items, found.vector));
        }
      }
    } catch (error) {
      if (isLatest()) {
        this.container.replaceChildren(element("p", { role: "alert" }, says(error)));
      }
      if (!(error instanceof Refused)) {
        throw error;
      }
    } finally {
      this.container.setAttribute("aria-busy", "false");
    }
  }
}

function says(error) {
  return error instanceof Refused ? error.message : "this page failed: the browser's console has the reason";
}

function parts(found) {
  return [element("p", {}, whereabouts(found)), ...vector(found), ...windowParts(found)];
}

function whereabouts({ where, partition, partitions, worker }) {
  const name = `Partition ${partition} of ${partitions}`;
  return {
    here: `${name}, which this worker holds.`,
    elsewhere: `${name} is held by the worker ${worker}: its page has the window. What Redis has stands below.`,
    nobody: `${name} is held by nobody at the moment: workers change, or restore windows. Ask again shortly.`,
    busy: `${name}: this worker is too busy to look. Ask again shortly.`,
  }[where];
}

function vector({ vector: found, no_vector: whyNot, is_waiting: isWaiting, difference, short_share: share, weights }) {
  const heading = element("h3", {}, "Vector");
  if (!found) {
    return [heading, element("p", {}, `None: ${whyNot}`)];
  }
  const own = found.reason === "" || found.reason === "long";
  const pairs = [
    ["reason", `${found.reason || "own"}: ${found.says}`],
    ["model", found.model],
    ["age", `${span(Math.max(found.age_s, 0))} since it was written`],
    ["newest event", own ? `${time(found.event_ms)} UTC, ${number(found.events)} events, source offset ${number(found.offset)}` : "–"],
    ["length", `${number(found.length, 4)}, ${found.dimension} dimensions`],
  ];
  if (own) {
    pairs.push(["items", found.inputs ? `as the item learner has them, snapshot ${found.inputs}` : "as they were trained"]);
  }
  if (share !== undefined) {
    const shares = [`${number(share * 100, 1)} % short tower${weights.short ? "" : " (its direct path alone)"}`];
    shares.push(`${number((1 - share) * 100, 1)} % long tower${weights.long ? "" : " (left out by training: zeros)"}`);
    pairs.push(["made of", shares.join(", ")]);
  }
  if (isWaiting) {
    pairs.push(["waiting", "newer events of the window are in no vector yet"]);
  } else if (typeof difference === "number") {
    pairs.push(["check", `the window, encoded again, gives the same vector (greatest difference ${difference})`]);
  } else if (found.inputs) {
    pairs.push(["check", "none: items have changed since; weights are by what they are now"]);
  }
  return [heading, facts("facts", pairs)];
}

function windowParts({ window: found, where, weights }) {
  const heading = element("h3", {}, "Window");
  if (!found || !found.events.length) {
    const whyNot = {
      here: "No events of this user are kept: none came, they are older than the window, or the user was forgotten.",
      elsewhere: "It is with the other worker.",
    };
    return [heading, element("p", {}, whyNot[where] ?? "It cannot be read at the moment.")];
  }
  const sessions = sessionsOf(found.events);
  const summary =
    `${number(found.events.length)} events in ${number(sessions.length)} sessions (a pause over ` +
    `${span(found.gap_ms / 1000)} ends one). Since the user came: ${number(found.applied)} applied, ` +
    `${number(found.duplicate)} duplicate, ${number(found.late)} late. Times are UTC.`;
  return [heading, element("p", {}, summary), ...drawings(found.events, sessions, weights ?? {})];
}

function drawings(events, sessions, weights) {
  const line = element("div", {});
  const drawn = element("div", { id: "timeline" });
  const meaning = element("p", { class: "muted" });
  const listed = element("div", {});
  const names = Object.keys(weights);
  let chosen = names[0];
  let width = 0;
  const draw = () => {
    const values = weights[chosen] ?? events.map(() => 0);
    const [name, what] = WEIGHTS[chosen] ?? ["none", "this worker has not loaded the vector's model, so events have no weights"];
    meaning.textContent = `Bars: ${name}, ${what}.`;
    if (width > 0) {
      line.replaceChildren(overview(sessions, width));
      drawn.replaceChildren(bars(sessions, values, width, summaryOf(events, sessions, values, name)));
    }
    listed.replaceChildren(eventTable(events, values, name));
  };
  follow(line, (newWidth) => {
    width = newWidth;
    draw();
  });
  const choice = chooser(names, (name) => {
    chosen = name;
    draw();
  });
  draw();
  const details = element("details", {}, element("summary", {}, "The events as a table, newest first"), listed);
  return [line, choice, meaning, drawn, key(), details];
}

function chooser(names, choose) {
  const options = names.map((name, place) => {
    const input = element("input", { type: "radio", name: "weights", value: name });
    input.checked = place === 0;
    input.addEventListener("change", () => choose(name));
    return element("label", {}, input, ` ${WEIGHTS[name][0]}`);
  });
  return element("fieldset", {}, element("legend", {}, "What each event weighs"), ...options);
}

function summaryOf(events, sessions, values, name) {
  const heaviest = values.indexOf(Math.max(...values));
  const event = events[heaviest];
  return (
    `${events.length} events in ${sessions.length} sessions, by ${name}. The heaviest is the ${event.behaviour} of ` +
    `item ${event.item_id} at ${time(event.time_ms)}. The table below has all of them.`
  );
}

function eventTable(events, values, name) {
  const rows = events.map((event, place) => ({ ...event, weight: values[place] })).reverse();
  return table("Events of the window", [
    ["time (UTC)", "", (row) => time(row.time_ms)],
    ["session", "wide", (row) => row.session],
    ["behaviour", "", (row) => row.behaviour],
    ["item, category", "", (row) => `${row.item_id}${row.is_known ? "" : " (unknown to the model)"}, ${row.category || "no category"}`],
    [name, "number", (row) => number(row.weight, 4)],
  ], rows);
}

function nearest({ items, why_not: whyNot, of }, vectorFound) {
  const heading = element("h3", {}, "Nearest items");
  if (!items.length) {
    return [heading, element("p", {}, `None: ${whyNot}`)];
  }
  const whose = vectorFound && vectorFound.reason && vectorFound.reason !== "long" ? "the stand-in's vector" : "this vector";
  const note = `The greatest scores for ${whose}, of ${number(of)} items as trained, those of the window among them.`;
  const rows = items.map((item, place) => ({ ...item, place: place + 1 }));
  const columns = [["", "", (row) => row.place], ["item", "", (row) => row.item_id], ["score", "number", (row) => number(row.score, 3)]];
  return [heading, element("p", { class: "muted" }, note), table("Nearest items", columns, rows)];
}
