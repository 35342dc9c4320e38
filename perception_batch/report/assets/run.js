// Ties the page together: one time, and everything that follows it.

const byId = (id) => document.getElementById(id);

function clockText(seconds) {
  const tenths = Math.round(Math.abs(seconds) * 10);
  const minutes = Math.floor(tenths / 600), hours = Math.floor(minutes / 60), rest = tenths % 600;
  const ahead = hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}` : `${minutes}`;
  return `${seconds < 0 ? "−" : ""}${ahead}:${String(Math.floor(rest / 10)).padStart(2, "0")}.${rest % 10}`;
}

async function start() {
  const facts = JSON.parse(byId("facts").textContent);
  let rows;
  try {
    rows = await readRows(facts);
  } catch (error) {
    byId("now").textContent = "This browser is too old to play: it lacks DecompressionStream.";
    return;
  }
  const film = byId("film");
  if (film && byId("film-data")) film.src = URL.createObjectURL(new Blob([bytesOf("film-data")], { type: "video/mp4" }));
  const player = new Player(film, rows.seconds, facts.duration);
  const bird = byId("bird") ? new BirdEye(byId("bird"), facts, rows) : null;
  const slider = byId("slider"), head = byId("head"), hover = byId("hover"), now = byId("now"), play = byId("play");
  const outputs = [...document.querySelectorAll("output[data-now]")];
  let width = slider.clientWidth, drawn = -1, told = -1, toldAt = 0, peek = null, moved = NaN;
  new ResizeObserver(() => { width = slider.clientWidth; moved = NaN; }).observe(slider);

  const value = (array, step, unit, digits) => (array[step] === UNKNOWN ? "–" : (array[step] * unit).toFixed(digits));
  const readings = {
    count: (step) => `${rows.count[rows.shown(step)]}`,
    without: (step) => {
      let lacking = 0;
      for (let c = 0; c < facts.cameras.length; c++) lacking += rows.status[c * facts.steps + step] >= 3;
      return `${lacking}`;
    },
    spread: (step) => `${value(rows.spread, step, 0.1, 1)} ms`,
    speed: (step) => `${value(rows.speed, step, 0.01, 1)} m/s`,
    rate: (step) => `${value(rows.rate, step, 0.1, 0)} /s`,
  };

  function tell(step) {
    for (const output of outputs) output.textContent = readings[output.dataset.now](step);
  }

  function listNearest(step) {
    const body = byId("nearest");
    const shown = rows.shown(step), found = [];
    for (let i = rows.start[shown]; i < rows.start[shown + 1]; i++) {
      const placed = rows.flags[i] & HAS_POSITION;
      found.push([placed ? Math.hypot(rows.x[i], rows.y[i]) * POSITION_M : Infinity, i]);
    }
    found.sort((a, b) => a[0] - b[0] || rows.score[b[1]] - rows.score[a[1]]);
    const lines = found.slice(0, 6).map(([metres, i]) => {
      const line = document.createElement("tr");
      const cell = (words, kind) => {
        const element = document.createElement(kind);
        if (kind === "td") element.className = "n";
        element.textContent = words;
        line.append(element);
        return element;
      };
      const label = facts.labels[rows.label[i]] ?? { name: "other", color: "#8c8c8c" };
      const name = cell(rows.track[i] ? `${label.name} ${facts.tracks[rows.track[i] - 1]}` : label.name, "th");
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = label.color;
      name.prepend(dot);
      const flags = rows.flags[i];
      cell(flags & HAS_POSITION ? metres.toFixed(1) : "–", "td");
      cell(flags & HAS_ELLIPSE ? (rows.major[i] * SIGMA_M).toFixed(1) : "–", "td");
      cell(flags & HAS_VELOCITY ? (Math.hypot(rows.vx[i], rows.vy[i]) * SPEED_MPS).toFixed(1) : "–", "td");
      cell(flags & IS_FILLED ? "filled" : (rows.score[i] / 200).toFixed(2), "td");
      return line;
    });
    if (!lines.length) {
      const line = document.createElement("tr"), none = document.createElement("td");
      none.colSpan = 5;
      none.textContent = "no object just now";
      line.append(none);
      lines.push(line);
    }
    body.replaceChildren(...lines);
  }

  function frame(at) {
    const time = player.time;
    const step = stepAt(rows.seconds, time);
    if (time !== moved) {
      head.style.transform = `translateX(${(Math.min(time / (facts.duration || 1), 1) * width).toFixed(1)}px)`;
      moved = time;
    }
    if (step !== drawn) {
      drawn = step;
      bird?.draw(step);
      now.textContent = clockText(facts.first + rows.seconds[step]);
    }
    // Words change at most some times a second: nobody reads faster, and layout costs.
    if (step !== told && (!player.playing || at - toldAt > 200)) {
      told = step;
      toldAt = at;
      if (peek === null) tell(step);
      listNearest(step);
      slider.setAttribute("aria-valuenow", step);
      slider.setAttribute("aria-valuetext", clockText(facts.first + rows.seconds[step]));
    }
    const word = player.playing ? "Pause" : "Play";
    if (play.textContent !== word) play.textContent = word;
    requestAnimationFrame(frame);
  }

  const timeOf = (event) => {
    const box = slider.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * facts.duration;
  };
  const jump = (time) => player.seekStep(stepAt(rows.seconds, time));
  slider.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    slider.setPointerCapture(event.pointerId);
    jump(timeOf(event));
  });
  slider.addEventListener("pointermove", (event) => {
    const time = timeOf(event);
    if (event.buttons & 1) jump(time);
    peek = stepAt(rows.seconds, time);
    hover.style.visibility = "visible";
    hover.style.transform = `translateX(${((time / (facts.duration || 1)) * width).toFixed(1)}px)`;
    tell(peek);
  });
  slider.addEventListener("pointerleave", () => {
    peek = null;
    hover.style.visibility = "hidden";
    tell(drawn);
  });

  const current = () => stepAt(rows.seconds, player.time);
  play.addEventListener("click", () => player.toggle());
  film?.addEventListener("click", () => player.toggle());
  byId("back").addEventListener("click", () => player.seekStep(current() - 1));
  byId("forth").addEventListener("click", () => player.seekStep(current() + 1));
  byId("rate").addEventListener("change", (event) => player.setSpeed(Number(event.target.value)));
  byId("nearer")?.addEventListener("click", () => bird.zoom(-1));
  byId("farther")?.addEventListener("click", () => bird.zoom(1));
  for (const button of document.querySelectorAll("button[data-step]")) {
    button.addEventListener("click", () => {
      player.seekStep(Number(button.dataset.step));
      document.querySelector(".player").scrollIntoView({ block: "start" });
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.matches("select, input, pre, .scroll")) return;
    if (event.key === " " && target.closest("button, summary, a")) return;
    const far = event.shiftKey ? 10 : 1;
    const todo = {
      " ": () => player.toggle(),
      ArrowLeft: () => player.seekStep(current() - far),
      ArrowRight: () => player.seekStep(current() + far),
      Home: () => player.seekStep(0),
      End: () => player.seekStep(facts.steps - 1),
      PageUp: target === slider ? () => player.seekStep(current() + 10) : null,
      PageDown: target === slider ? () => player.seekStep(current() - 10) : null,
    }[event.key];
    if (!todo) return;
    event.preventDefault();
    todo();
  });
  // On paper nothing can be unfolded.
  const folded = () => document.querySelectorAll("details[data-paper]:not([open])");
  let unfolded = [];
  addEventListener("beforeprint", () => { unfolded = [...folded()]; for (const part of unfolded) part.open = true; });
  addEventListener("afterprint", () => { for (const part of unfolded) part.open = false; });
  requestAnimationFrame(frame);
  document.documentElement.dataset.ready = "yes";
}

start();
