// Asking the worker: JSON where it answers, one line of text where it does not.

const KEPT_AS = "twintide-token";

export class Refused extends Error {
  constructor(status, says) {
    super(says);
    this.status = status;
  }
}

// The token stays in this tab: no address, and so no history and no log, ever has it.
export function keepToken(token) {
  sessionStorage.setItem(KEPT_AS, token);
}

export async function ask(path) {
  const token = sessionStorage.getItem(KEPT_AS);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(`api/${path}`, { headers, cache: "no-store" });
  } catch (error) {
    throw new Refused(0, "the worker does not answer");
  }
  if (answer.status === 414) {
    throw new Refused(414, "no user id is that long");
  }
  if (!answer.ok) {
    throw new Refused(answer.status, (await answer.text()).trim() || `the worker answers ${answer.status}`);
  }
  return answer.json();
}
