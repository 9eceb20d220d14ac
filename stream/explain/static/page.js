// The page: asks once a second what the worker does, and explains the user who is asked for.

import { Refused, ask, keepToken } from "./api.js";
import { Live } from "./live.js";
import { User } from "./user.js";

const EVERY_MS = 1000;
const place = (id) => document.getElementById(id);
const live = new Live();
const user = new User(place("user"));

function showState({ health, model, topic, partitions, window_partitions: all, worker }) {
  const reason = health.reason ? `: ${health.reason}` : "";
  const held = `${partitions.length} of ${all} partitions of ${topic}`;
  place("state").textContent = `${worker} · ${health.status}${reason} · ${held} · model ${model || "none"}`;
}

async function refresh() {
  try {
    const state = await ask("live");
    place("token-form").hidden = true;
    showState(state);
    live.show(state);
  } catch (error) {
    if (!(error instanceof Refused)) {
      throw error;
    }
    place("token-form").hidden = error.status !== 401;
    place("state").textContent = error.message;
  }
}

async function keepRefreshing() {
  try {
    if (!document.hidden) {
      await refresh();
    }
  } finally {
    setTimeout(keepRefreshing, EVERY_MS);
  }
}

// The user asked for stands behind the #, which browsers keep to themselves.
function showUser() {
  const userId = new URLSearchParams(location.hash.slice(1)).get("user");
  if (userId !== null) {
    place("user-id").value = userId;
    user.show(userId);
  }
}

place("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const hash = `#${new URLSearchParams({ user: place("user-id").value })}`;
  if (location.hash === hash) {
    showUser();
  } else {
    location.hash = hash;
  }
});
place("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(place("token").value);
  refresh().then(showUser);
});
addEventListener("hashchange", showUser);
showUser();
keepRefreshing();
