// The other side of packing.py: the block of rows as typed arrays, with values along tracks added up again.

const POSITION_M = 0.05, SPEED_MPS = 0.05, SIGMA_M = 0.02;
const HAS_POSITION = 1, HAS_ELLIPSE = 2, HAS_VELOCITY = 4, IS_FILLED = 8;
const UNKNOWN = 65535;

function bytesOf(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  element.remove(); // the letters are of no more use
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function readRows(facts) {
  const packed = new Blob([bytesOf("rows")]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const block = await new Response(packed).arrayBuffer();
  const types = { Uint8Array, Uint16Array, Uint32Array, Float32Array };
  const rows = {};
  for (const { name, type, offset, length } of facts.columns) rows[name] = new types[type](block, offset, length);

  rows.before = new Int32Array(rows.track.length).fill(-1);
  const last = new Int32Array(facts.tracks.length + 1).fill(-1);
  for (const name of ["x", "y", "vx", "vy", "major", "minor"]) rows[name] = new Int16Array(rows[name].buffer, rows[name].byteOffset, rows[name].length);
  for (let i = 0; i < rows.track.length; i++) {
    const track = rows.track[i];
    if (track === 0) continue;
    const p = last[track];
    last[track] = i;
    rows.before[i] = p;
    if (p < 0) continue;
    rows.x[i] += rows.x[p]; // an Int16Array wraps as the differences do
    rows.y[i] += rows.y[p];
    rows.vx[i] += rows.vx[p];
    rows.vy[i] += rows.vy[p];
    rows.major[i] += rows.major[p];
    rows.minor[i] += rows.minor[p];
  }

  const steps = facts.steps;
  rows.seconds = new Float64Array(steps);
  rows.start = new Uint32Array(steps + 1);
  for (let i = 0, tick = 0; i < steps; i++) {
    rows.seconds[i] = (tick += rows.tick[i]) / 90000;
    rows.start[i + 1] = rows.start[i] + rows.count[i];
  }
  rows.stepOf = new Uint32Array(rows.track.length);
  for (let i = 0; i < steps; i++) rows.stepOf.fill(i, rows.start[i], rows.start[i + 1]);
  // Where long drives are thinned, a timestep shows the objects of the last one that has any to show.
  rows.shown = (step) => step - (step % facts.every);
  return rows;
}

function stepAt(seconds, time) {
  let low = 0, high = seconds.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (seconds[middle] <= time + 1e-4) low = middle;
    else high = middle - 1;
  }
  return low;
}
