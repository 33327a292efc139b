// What goes to and comes from the computer. Turns that could not be sent wait, and go with the next ones.

const PATIENCE_MS = 10000;
const LAST_TRIES = 4;
const MOST_TURNS = 1000;

export class Link {
  #name = nameOfThisPage();
  #turns = [];
  #sent = 0;

  async job() {
    return (await get("job")).json();
  }

  async bytes(path) {
    return new Uint8Array(await (await get(path)).arrayBuffer());
  }

  // Sends one message; throws where it does not arrive or is refused.
  async send(message) {
    const answer = await fetch(`phone/${this.#name}`, {
      method: "POST",
      body: JSON.stringify(message),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw new Error(`The computer refused a message (${answer.status}): ${await answer.text()}`);
    return answer.json();
  }

  // `turns` grows while it is measured; those in it now have arrived.
  pending(turns) {
    this.#turns = turns;
    this.#sent = turns.length;
  }

  // Sends the turns that wait; false where they could not be sent.
  async flush() {
    try {
      while (this.#sent < this.#turns.length) {
        const times_ms = this.#turns.slice(this.#sent, this.#sent + MOST_TURNS);
        const { turns } = await this.send({ kind: "turns", first: this.#sent, times_ms });
        this.#sent = turns;
      }
      return true;
    } catch {
      return false;
    }
  }

  async finish() {
    for (let tries = 0; tries < LAST_TRIES; tries++) {
      if (await this.flush()) return true;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    return false;
  }

  async fail(error) {
    await this.send({ kind: "failed", message: String(error?.message ?? error).slice(0, 2000) }).catch(() => {});
  }
}

async function get(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error("The computer does not answer. Is paredown bench still running there, and this phone in the same network?");
  }
  if (!answer.ok) throw new Error(`The computer does not have ${path} (${answer.status}).`);
  return answer;
}

// Kept while the tab lives, so that the computer knows a page that is loaded again.
function nameOfThisPage() {
  const key = `paredown ${location.pathname}`;
  const fresh = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
  try {
    const name = sessionStorage.getItem(key) ?? fresh;
    sessionStorage.setItem(key, name);
    return name;
  } catch {
    return fresh;
  }
}
