// A window as two drawings: its sessions on a line of time, and its events as bars, cut into sessions.

import { element, shape, time } from "./elements.js";

const BAR = 9;
const PITCH = 12;
const TALLEST = 36;
const ROW = TALLEST + 40;
const SESSION_GAP = 14;
const LABEL_WIDTH = 104;

// Sessions as lists of events, oldest first; each event is given its place in the window.
export function sessionsOf(events) {
  const sessions = [];
  events.forEach((event, place) => {
    if (place === 0 || event.session !== events[place - 1].session) {
      sessions.push([]);
    }
    sessions.at(-1).push({ ...event, place });
  });
  return sessions;
}

export function overview(sessions, width) {
  const first = sessions[0][0].time_ms;
  const last = sessions.at(-1).at(-1).time_ms;
  const x = (ms) => (last > first ? ((ms - first) / (last - first)) * (width - 4) : 0);
  const says = `${sessions.length} sessions from ${time(first)} to ${time(last)} UTC`;
  const marks = sessions.map((session) => {
    const from = x(session[0].time_ms);
    const to = x(session.at(-1).time_ms);
    const mark = { x: from, y: 4, width: Math.max(to - from, 4), height: 18, class: "session" };
    return shape("rect", mark, shape("title", {}, `${time(session[0].time_ms)}: ${session.length} events`));
  });
  return shape(
    "svg",
    { width, height: 42, role: "img", "aria-label": says },
    shape("line", { x1: 0, x2: width, y1: 23, y2: 23, class: "axis" }),
    ...marks,
    shape("text", { x: 0, y: 38 }, time(first).slice(0, 10)),
    shape("text", { x: width, y: 38, "text-anchor": "end" }, time(last).slice(0, 10)),
  );
}

// Bars as high as their weight, wrapped into rows; a session's first bar has its time above it.
export function bars(sessions, weights, width, says) {
  const highest = Math.max(...weights, 0);
  const height = (weight) => (highest > 0 ? Math.max((weight / highest) * TALLEST, 1) : 1);
  const drawn = [];
  let x = 0;
  let y = 0;
  for (const session of sessions) {
    const wanted = Math.max(session.length * PITCH, LABEL_WIDTH);
    if (x > 0 && x + Math.min(wanted, width) > width) {
      [x, y] = [0, y + ROW];
    }
    drawn.push(shape("text", { x, y: y + 12 }, time(session[0].time_ms).slice(5, 16)));
    const start = [x, y];
    for (const event of session) {
      if (x + PITCH > width) {
        [x, y] = [0, y + ROW];
      }
      drawn.push(...bar(event, weights[event.place], height(weights[event.place]), x, y));
      x += PITCH;
    }
    x = (y === start[1] ? Math.max(x, start[0] + LABEL_WIDTH) : x) + SESSION_GAP;
  }
  return shape("svg", { width, height: y + ROW, role: "img", "aria-label": says }, ...drawn);
}

function bar(event, weight, height, x, y) {
  const bottom = y + 18 + TALLEST;
  const kind = event.is_known ? event.behaviour : `${event.behaviour} unknown`;
  const says = `${time(event.time_ms)} ${event.behaviour} ${event.item_id}: ${weight}`;
  return [
    shape("rect", { x, y: bottom - height, width: BAR, height, class: kind }, shape("title", {}, says)),
    shape("text", { x: x + BAR / 2, y: bottom + 12, class: "letter" }, event.behaviour[0].toUpperCase()),
  ];
}

export function key() {
  const names = ["view", "favourite", "cart", "buy"];
  const marks = names.flatMap((name) => [
    shape("svg", { width: 10, height: 10, "aria-hidden": "true", class: "swatch" }, shape("rect", { width: 10, height: 10, class: name })),
    ` ${name[0].toUpperCase()} ${name} `,
  ]);
  return element("p", { class: "muted key" }, ...marks, "· pale and dashed: the model does not know the item");
}
