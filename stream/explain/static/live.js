// What the worker does now: figures, two charts, partitions, results, dead letters.

import { facts, follow, number, table, time } from "./elements.js";

const HEIGHT = 180;
const place = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  constructor(container, lines) {
    this.container = container;
    this.data = [[], ...lines.map(() => [])];
    // Colours are asked for at every drawing, so that they follow the light and dark of the page.
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
    this.options = {
      width: 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
      axes: [
        { ...axis, space: 70, values: (_, marks) => marks.map((mark) => time(mark * 1000).slice(11)) },
        { ...axis, size: 56, values: (_, marks) => marks.map((mark) => number(mark, 1)) },
      ],
      series: [{}, ...lines.map(([name, dash]) => ({ stroke: () => colour(name), width: 2, dash, points: { show: false } }))],
    };
    follow(container, (width) => this.resize(width));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot?.redraw());
  }

  resize(width) {
    if (width > 0 && !this.plot) {
      this.plot = new uPlot(this.options, this.data, this.container);
    }
    this.plot?.setSize({ width, height: HEIGHT });
  }

  show(data) {
    this.data = data;
    this.plot?.setData(data);
  }
}

export class Live {
  constructor() {
    this.throughput = new Chart(place("throughput"), [["--accent"]]);
    this.freshness = new Chart(place("freshness"), [["--accent"], ["--favourite", [6, 4]]]);
  }

  show(state) {
    const { time_s: at, events_per_s: rate, p50_ms: p50, p99_ms: p99 } = state.series;
    const last = (values) => values.at(-1) ?? null;
    this.throughput.show([at, rate]);
    this.freshness.show([at, p50, p99]);
    const lag = state.partitions.reduce((sum, each) => sum + each.lag, 0);
    replace("figures", facts("", [
      ["events/s", number(last(rate))],
      ["freshness p50", milliseconds(last(p50))],
      ["freshness p99", milliseconds(last(p99))],
      ["lag, events", number(lag)],
    ], true).childNodes);
    place("throughput-says").textContent = `now ${number(last(rate))}, ${between(rate)} in the last ${minutes(at)}`;
    place("freshness-says").textContent =
      `from sent to readable: p50 (line) ${milliseconds(last(p50))}, p99 (dashed) ${milliseconds(last(p99))}, ` +
      `at most ${milliseconds(Math.max(...p99.filter((each) => each !== null)))}`;
    this.showTables(state);
  }

  showTables(state) {
    replace("partitions", [
      state.partitions.length
        ? table("Partitions of this worker", [
            ["partition", "", (row) => row.partition],
            ["events/s", "number", (row) => number(row.events_per_s)],
            ["lag, events", "number", (row) => number(row.lag)],
            ["p50", "number", (row) => milliseconds(row.p50_ms)],
            ["p99", "number", (row) => milliseconds(row.p99_ms)],
            ["next offset", "number wide", (row) => number(row.next_offset)],
            ["newest event (UTC)", "number wide", (row) => time(row.newest_ms)],
          ], state.partitions)
        : "This worker holds no partition.",
    ]);
    const results = Object.entries(state.rates);
    replace("results", [
      results.length
        ? table("Events by result", [["result", "", ([name]) => name], ["events/s", "number", ([, each]) => number(each, 1)]], results)
        : "None came yet.",
    ]);
    const letters = Object.entries(state.dead_letters);
    replace("dead-letters", [
      letters.length
        ? table("Dead letters by reason", [["reason", "", ([name]) => name], ["since the start", "number", ([, each]) => number(each)]], letters)
        : "None since this worker started.",
    ]);
  }
}

function replace(id, children) {
  place(id).replaceChildren(...children);
}

function milliseconds(value) {
  return value === null || !Number.isFinite(value) ? "–" : `${number(value, value < 10 ? 1 : 0)} ms`;
}

function between(values) {
  return values.length ? `${number(Math.min(...values))} to ${number(Math.max(...values))}` : "–";
}

function minutes(times) {
  const seconds = times.length ? times.at(-1) - times[0] : 0;
  return seconds < 90 ? `${number(seconds)} s` : `${number(seconds / 60)} min`;
}
