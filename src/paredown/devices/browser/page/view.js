// What a person sees. Text goes in as text: names of files are nobody's HTML.

const BUILDS = {
  threaded: "WebAssembly with threads and relaxed SIMD",
  plain: "WebAssembly with relaxed SIMD, without threads",
  compat: "WebAssembly without relaxed SIMD, 2 to 4 times slower",
};
// Closer than this, nobody should call one of two networks faster.
const SAME = 0.02;

const at = (id) => document.getElementById(id);

export function step(title, text, share) {
  at("title").textContent = title;
  at("text").textContent = text;
  const percent = Math.round(100 * share);
  at("progress").setAttribute("aria-valuenow", percent);
  at("progress").firstElementChild.style.width = `${percent}%`;
}

export function facts(job, hello) {
  const rows = {
    Threads: hello.threads === job.threads ? hello.threads : `${hello.threads} of ${job.threads} asked for`,
    Runtime: BUILDS[hello.build],
    Turns: job.files.length > 1 ? `${job.runs}; in each, one network after the other` : job.runs,
  };
  at("list").replaceChildren(...Object.entries(rows).flatMap(([key, value]) => [node("dt", "", key), node("dd", "", value)]));
  const why = reason(job, hello);
  at("note").hidden = !why;
  at("note").textContent = why;
  at("facts").hidden = false;
}

function reason(job, hello) {
  if (hello.threads >= job.threads) return "";
  if (!hello.secure) return "Over plain http a browser gives a page one thread only. Start paredown bench with --https, or use adb reverse and http://localhost, for more.";
  if (hello.build === "compat") return "This browser lacks relaxed SIMD, and the runtime has no threads without it.";
  return `This phone has no more than ${hello.cores} threads for a page.`;
}

// One bar per network, from the turns so far.
export function bars(job, turns) {
  at("results").hidden = !turns.length;
  if (!turns.length) return;
  const times = job.files.map((_, place) => turns.map((turn) => turn[place]));
  const longest = Math.max(...times.map((column) => quantile(column, 0.5)));
  at("bars").replaceChildren(...job.files.map((file, place) => bar(file, times[place], longest, place ? speed(turns, place) : null)));
  at("spread").textContent = `Median of ${turns.length} turn${turns.length === 1 ? "" : "s"}, and the middle 80 % of them. Shorter is better.`;
}

function bar(file, times, longest, factor) {
  const [low, median, high] = [0.1, 0.5, 0.9].map((share) => quantile(times, share));
  const item = node("li");
  const row = node("div", "row");
  row.append(node("span", "name", file.name), node("span", "time", `${digits(median)} ms`));
  const track = node("div", "track");
  track.appendChild(node("i", factor < 1 - SAME && factor !== null ? "slower" : "")).style.width = `${(100 * median) / longest}%`;
  const under = node("div", "row under");
  const left = node("span", "", size(file.size_bytes));
  if (factor !== null) left.append(" · ", compared(factor));
  under.append(left, node("span", "range", `${digits(low)} to ${digits(high)} ms`));
  item.append(row, track, under);
  return item;
}

function compared(factor) {
  if (Math.abs(factor - 1) < SAME) return node("b", "same", "as fast as the first");
  return factor > 1 ? node("b", "", `${digits(factor)} × faster`) : node("b", "slower", `${digits(1 / factor)} × slower`);
}

export function done(job, turns, sent) {
  document.body.className = "done";
  at("title").textContent = headline(job, turns);
  at("text").textContent = sent
    ? "Done: the figures are on your computer. You can close this page."
    : "Measured, but the computer no longer answers: the last figures stand here alone.";
}

function headline(job, turns) {
  if (job.files.length !== 2) return `${job.files.length} network${job.files.length === 1 ? "" : "s"} measured`;
  const factor = speed(turns, 1);
  const [first, second] = job.files.map((file) => file.name);
  if (Math.abs(factor - 1) < SAME) return `${second} is as fast as ${first}`;
  return factor > 1 ? `${second} is ${digits(factor)} × faster` : `${second} is ${digits(1 / factor)} × slower`;
}

export function failed(error) {
  document.body.className = "failed";
  at("title").textContent = "It did not work";
  at("text").textContent = String(error?.message ?? error);
}

// Median of the ratios first / this one, each taken within a turn.
function speed(turns, place) {
  return quantile(turns.map((times) => times[0] / times[place]), 0.5);
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// Three digits: 0.0421, 4.20, 421.
function digits(value) {
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  const decimals = 2 - Math.floor(Math.log10(Number(value.toPrecision(3))));
  return value.toFixed(Math.min(Math.max(decimals, 0), 8));
}

function size(bytes) {
  const [unit, name] = bytes >= 1e6 ? [1e6, "MB"] : bytes >= 1e3 ? [1e3, "kB"] : [1, "bytes"];
  return unit === 1 ? `${bytes} ${name}` : `${digits(bytes / unit)} ${name}`;
}

function node(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
