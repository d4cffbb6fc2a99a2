// A deterministic workload for QuickJS: `qjs --std -m script.js SCALE DIR`. Generators, promises, closures, exceptions, regular
// expressions, typed arrays, big integers, proxies, sorting, garbage, files.
import * as std from "qjs:std";

const scale = Number(scriptArgs[1] ?? 1);
const dir = scriptArgs[2] ?? ".";
const log = std.open(`${dir}/log.txt`, "w");

let seed = 42;
function random(n) {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >>> 8) % n;
}

function* primes() {
  const found = [];
  for (let n = 2; ; n++) {
    if (found.every((p) => n % p)) {
      found.push(n);
      yield n;
    }
  }
}

class Shape {
  #name;
  constructor(name) { this.#name = name; }
  get name() { return this.#name; }
  area() { throw new TypeError(`${this.#name} has no area`); }
}
class Square extends Shape {
  constructor(side) { super("square"); this.side = side; }
  area() { return this.side ** 2; }
}

function attempt(f) {
  try { return f(); } catch (e) { return `${e.constructor.name}: ${e.message}`; } finally { seed ^= 1; }
}

function deep(n) { return n === 0 ? 0 : 1 + deep(n - 1); }

function words(n) {
  const seen = new Map();
  for (let i = 0; i < n; i++) {
    let w = "";
    for (let j = 0; j < 2 + random(3); j++) w += String.fromCharCode(97 + random(6));
    seen.set(w, (seen.get(w) ?? 0) + 1);
  }
  return [...seen].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, 4).map((x) => x.join("=")).join(" ");
}

function mandelbrot(size) {
  const cells = new Uint8Array(size * size);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
    let [a, b, n] = [0, 0, 0];
    const cx = x * 3 / size - 2, cy = y * 2 / size - 1;
    while (n < 50 && a * a + b * b < 4) [a, b, n] = [a * a - b * b + cx, 2 * a * b + cy, n + 1];
    cells[y * size + x] = n;
  }
  return cells.reduce((h, n) => (Math.imul(h, 31) + n) | 0, 7);
}

function factorial(n) { return n < 2n ? 1n : n * factorial(n - 1n); }

const counted = new Proxy({}, { get: (t, k) => (t[k] = (t[k] ?? 0) + 1), has: () => true });

async function steps(n) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += await new Promise((done, failed) => (i % 5 ? done(i) : failed(new RangeError(i)))).catch((e) => -e.message);
  return sum;
}

async function* spread(n) { for (let i = 0; i < n; i++) yield steps(i); }

for (let round = 1; round <= scale; round++) {
  print("round", round);
  let sum = 0;
  for (const p of primes()) { if (p > 400) break; sum += p; }
  print("primes", sum, "deep", deep(300 + round));
  print("words", words(400));
  print("shapes", [new Square(round), new Shape("blob")].map((s) => attempt(() => s.area())).join("; "));
  print("errors", attempt(() => null.x), attempt(() => undefinedName), attempt(() => JSON.parse("{oops")).slice(0, 11));
  print("mandelbrot", mandelbrot(24));
  print("factorial", factorial(BigInt(40 + round)) % 1000000007n);
  const text = Array.from({ length: 120 }, (_, i) => `${i}:item-${"x".repeat(i % 4)};`).join("");
  print("text", text.length, text.replace(/(\d+):item-(x*)/g, (_, n, x) => x + n).slice(0, 40), text.match(/x{3}/g).length);
  print("json", JSON.stringify(JSON.parse(JSON.stringify({ a: [1, { b: round / 3 }], c: "\u00e9\ud83d\ude00", d: null }))));
  counted.round; counted.round;
  print("floats", Math.sin(round).toFixed(12), (1 / 3 * round).toExponential(9), 0.1 + 0.2, "z" in counted);
  for await (const s of spread(12)) sum += s;
  const floats = new Float64Array(64).map((_, i) => 1 / (i + round));
  print("async", sum, new Uint32Array(floats.buffer).reduce((a, b) => a ^ b, 0));
  log.puts(`round ${round}: ${sum} ${counted.round} ${words(50)}\n`);
}
log.close();
print("done");
