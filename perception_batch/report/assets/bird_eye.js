// The bird's-eye view: the vehicle, what its cameras see of the ground, the objects with trails and uncertainty.

const TRAIL_S = 3;
const RANGES_M = [10, 15, 20, 30, 40, 50, 75, 100, 150, 200];

class BirdEye {
  constructor(canvas, facts, rows) {
    this.canvas = canvas;
    this.facts = facts;
    this.rows = rows;
    this.range = facts.range; // m ahead of the vehicle up to the upper edge
    this.step = -1;
    this.ground = document.createElement("canvas");
    const behind = facts.views.some((view) => Math.abs(view[2]) > 1.8);
    this.stand = facts.views.length && !behind ? 0.86 : 0.56; // a vehicle that sees nothing behind stands at the lower edge
    new ResizeObserver(() => this.fit()).observe(canvas);
    for (const media of ["(prefers-color-scheme: dark)", "print"])
      matchMedia(media).addEventListener("change", () => this.fit());
    this.fit();
  }

  zoom(by) {
    const next = by > 0 ? RANGES_M.find((r) => r > this.range * 1.01) : RANGES_M.findLast((r) => r < this.range * 0.99);
    if (next) this.range = next;
    this.fit();
  }

  fit() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    this.dots = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.canvas, this.ground]) {
      canvas.width = Math.round(box.width * this.dots);
      canvas.height = Math.round(box.height * this.dots);
    }
    this.width = box.width;
    this.height = box.height;
    this.scale = (this.height * this.stand - 10) / this.range;
    const style = getComputedStyle(document.documentElement);
    this.color = (name) => style.getPropertyValue(`--${name}`).trim();
    this.inks = { ink: this.color("ink"), soft: this.color("soft"), panel: this.color("ground") };
    this.drawGround();
    this.draw(this.step, true);
  }

  place(context) {
    context.setTransform(this.dots, 0, 0, this.dots, (this.width / 2) * this.dots, this.height * this.stand * this.dots);
  }

  // Base frame (x forward, y left) to the canvas: right is -y, down is -x.
  px(x, y) {
    return [-y * this.scale, -x * this.scale];
  }

  drawGround() {
    const c = this.ground.getContext("2d");
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.ground.width, this.ground.height);
    this.place(c);
    const far = this.range * 3 * this.scale;
    c.fillStyle = this.color("view");
    for (const [x, y, bearing, half] of this.facts.views) {
      const [cx, cy] = this.px(x, y);
      const ahead = -Math.PI / 2 - bearing;
      c.beginPath();
      c.moveTo(cx, cy);
      c.arc(cx, cy, far, ahead - half, ahead + half);
      c.closePath();
      c.fill();
    }
    const every = [2, 5, 10, 20, 50].find((m) => this.range / m <= 5.5) || 50;
    c.strokeStyle = this.color("ring");
    c.fillStyle = this.color("soft");
    c.lineWidth = 1;
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    for (let r = every; r * this.scale < far / 2; r += every) {
      c.beginPath();
      c.arc(0, 0, r * this.scale, 0, 2 * Math.PI);
      c.stroke();
      if (r <= this.range) c.fillText(`${r} m`, 5, -r * this.scale + 8);
    }
    c.fillStyle = this.color("ego");
    const [length, width] = [4.6 * this.scale, 1.9 * this.scale];
    c.beginPath();
    c.roundRect(-width / 2, -length / 2, width, length, Math.min(width, 6) / 3);
    c.fill();
    c.fillStyle = this.color("ground");
    c.beginPath();
    c.moveTo(0, -length * 0.34);
    c.lineTo(width * 0.28, -length * 0.12);
    c.lineTo(-width * 0.28, -length * 0.12);
    c.fill();
  }

  draw(step, anyway) {
    const shown = step < 0 ? step : this.rows.shown(step);
    if (shown === this.step && !anyway) return;
    this.step = shown;
    const c = this.canvas.getContext("2d");
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    c.drawImage(this.ground, 0, 0);
    if (shown < 0) return;
    this.place(c);
    const { rows, facts } = this;
    const [first, stop] = [rows.start[shown], rows.start[shown + 1]];
    const visible = [];
    for (let i = first; i < stop; i++) if (rows.flags[i] & HAS_POSITION) visible.push(i);
    for (const i of visible) this.trail(c, i, shown);
    for (const i of visible) this.ellipse(c, i);
    for (const i of visible) this.body(c, i);
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.lineWidth = 3;
    c.lineJoin = "round";
    c.strokeStyle = this.inks.panel;
    c.fillStyle = this.inks.ink;
    const taken = [];
    const distance = (i) => rows.x[i] * rows.x[i] + rows.y[i] * rows.y[i];
    for (const i of visible.sort((a, b) => distance(a) - distance(b))) {
      const [x, y] = this.px(rows.x[i] * POSITION_M, rows.y[i] * POSITION_M);
      const track = rows.track[i] ? facts.tracks[rows.track[i] - 1] : null;
      const words = track === null ? facts.labels[rows.label[i]]?.name ?? "" : `${track}`;
      const half = Math.max(4, (rows.wide[i] / 20) * this.scale);
      const spot = [x + half + 3, y, words.length * 6.2, 12];
      if (taken.some((t) => spot[0] < t[0] + t[2] && t[0] < spot[0] + spot[2] && Math.abs(spot[1] - t[1]) < 12)) continue;
      taken.push(spot);
      c.strokeText(words, spot[0], spot[1]);
      c.fillText(words, spot[0], spot[1]);
    }
  }

  tint(i) {
    return this.facts.labels[this.rows.label[i]]?.color ?? "#8c8c8c";
  }

  // Where the track was, in the vehicle's frame of now: the past is fixed to the ground, not to the vehicle.
  trail(c, i, step) {
    const { rows, facts } = this;
    const ego = (k, axis) => rows.ego[axis * facts.steps + k];
    const [x0, y0, yaw0] = [ego(step, 0), ego(step, 1), ego(step, 2)];
    if (Number.isNaN(yaw0)) return;
    c.beginPath();
    c.moveTo(...this.px(rows.x[i] * POSITION_M, rows.y[i] * POSITION_M));
    for (let p = rows.before[i]; p >= 0; p = rows.before[p]) {
      const k = rows.stepOf[p];
      if (rows.seconds[step] - rows.seconds[k] > TRAIL_S || !(rows.flags[p] & HAS_POSITION)) break;
      const turn = ego(k, 2) - yaw0;
      if (Number.isNaN(turn)) break;
      const [dx, dy] = [ego(k, 0) - x0, ego(k, 1) - y0];
      const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
      const [x, y] = [rows.x[p] * POSITION_M, rows.y[p] * POSITION_M];
      const ahead = Math.cos(yaw0) * dx + Math.sin(yaw0) * dy + cos * x - sin * y;
      const left = -Math.sin(yaw0) * dx + Math.cos(yaw0) * dy + sin * x + cos * y;
      c.lineTo(...this.px(ahead, left));
    }
    c.strokeStyle = this.tint(i);
    c.globalAlpha = 0.45;
    c.lineWidth = 2;
    c.stroke();
    c.globalAlpha = 1;
  }

  // One and two standard deviations.
  ellipse(c, i) {
    const { rows } = this;
    if (!(rows.flags[i] & HAS_ELLIPSE)) return;
    const [x, y] = this.px(rows.x[i] * POSITION_M, rows.y[i] * POSITION_M);
    const turn = -Math.PI / 2 - (rows.turn[i] / 255) * Math.PI;
    const [a, b] = [rows.major[i] * SIGMA_M * this.scale, rows.minor[i] * SIGMA_M * this.scale];
    c.strokeStyle = this.tint(i);
    c.fillStyle = this.tint(i);
    c.lineWidth = 1;
    for (const [n, alpha] of [[2, 0.35], [1, 0.6]]) {
      c.beginPath();
      c.ellipse(x, y, n * a, n * b, turn, 0, 2 * Math.PI);
      c.globalAlpha = alpha;
      c.stroke();
      c.globalAlpha = 0.06;
      c.fill();
    }
    c.globalAlpha = 1;
  }

  // A box where the heading is known, else a dot; a line to where it is in a second. A ring is a guess of hindsight.
  body(c, i) {
    const { rows } = this;
    const [x, y] = this.px(rows.x[i] * POSITION_M, rows.y[i] * POSITION_M);
    const tint = this.tint(i);
    c.strokeStyle = tint;
    c.fillStyle = tint;
    c.lineWidth = 1.5;
    if (rows.flags[i] & HAS_VELOCITY) {
      const [vx, vy] = this.px(rows.vx[i] * SPEED_MPS, rows.vy[i] * SPEED_MPS);
      c.beginPath();
      c.moveTo(x, y);
      c.lineTo(x + vx, y + vy);
      c.stroke();
    }
    const filled = rows.flags[i] & IS_FILLED;
    c.beginPath();
    if (rows.yaw[i] !== 255 && rows.long[i] && rows.wide[i]) {
      c.save();
      c.translate(x, y);
      c.rotate(-(rows.yaw[i] / 255) * 2 * Math.PI);
      const [long, wide] = [(rows.long[i] / 10) * this.scale, (rows.wide[i] / 10) * this.scale];
      c.rect(-wide / 2, -long / 2, wide, long);
      c.restore();
    } else c.arc(x, y, Math.max(3.5, (rows.wide[i] / 20) * this.scale), 0, 2 * Math.PI);
    c.globalAlpha = filled ? 0.15 : 0.6;
    c.fill();
    c.globalAlpha = 1;
    if (filled) c.setLineDash([3, 2]);
    c.stroke();
    c.setLineDash([]);
  }
}
