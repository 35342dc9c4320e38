// The time of the page: that of the video, or of a clock of its own where there is no video that plays.

class Player {
  constructor(film, seconds, duration) {
    this.film = film;
    this.seconds = seconds;
    this.duration = Math.max(duration, seconds[seconds.length - 1]);
    this.running = false;
    this.held = 0; // s, of the own clock
    this.since = 0; // ms, when the own clock was started
    this.speed = 1;
    this.asked = 0; // s, where the last jump went
    this.wanted = null; // a time asked of a video that does not know its length yet
    if (film) {
      film.addEventListener("error", () => this.giveUp(), true);
      film.addEventListener("loadedmetadata", () => {
        if (this.wanted !== null) film.currentTime = this.wanted;
        this.wanted = null;
      });
      if (film.error) this.giveUp();
    }
  }

  giveUp() {
    if (!this.film) return;
    const time = this.asked;
    const note = document.createElement("div");
    note.className = "no-film";
    note.textContent = "The video is not beside this page, or this browser cannot play it. The clock below runs all the same.";
    this.film.replaceWith(note);
    this.film = null;
    this.running = false;
    this.held = time;
  }

  get time() {
    if (this.film) return this.wanted ?? this.film.currentTime;
    if (!this.running) return this.held;
    const time = this.held + (this.speed * (performance.now() - this.since)) / 1000;
    if (time < this.duration) return time;
    this.running = false;
    return (this.held = this.duration);
  }

  get playing() {
    return this.film ? !this.film.paused && !this.film.ended : this.running;
  }

  seek(time) {
    const at = Math.min(Math.max(time, 0), this.duration);
    this.asked = at;
    if (!this.film) {
      this.held = at;
      this.since = performance.now();
    } else if (this.film.readyState < 1) this.wanted = at;
    else this.film.currentTime = at;
  }

  // A little after its begin, so that rounding shows no picture before it.
  seekStep(step) {
    const at = Math.min(Math.max(step, 0), this.seconds.length - 1);
    const next = at + 1 < this.seconds.length ? this.seconds[at + 1] : this.duration;
    this.seek(this.seconds[at] + Math.min(0.002, Math.max(0, next - this.seconds[at]) / 2));
  }

  toggle() {
    if (this.film) {
      if (this.playing) this.film.pause();
      else this.film.play().catch(() => {});
      return;
    }
    this.held = this.time >= this.duration ? 0 : this.time;
    if (this.running) this.running = false;
    else {
      this.since = performance.now();
      this.running = true;
    }
  }

  setSpeed(speed) {
    if (this.film) this.film.playbackRate = speed;
    else {
      this.held = this.time;
      this.since = performance.now();
    }
    this.speed = speed;
  }
}
