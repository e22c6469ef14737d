"use strict";
(() => {
  const clip = JSON.parse(document.getElementById("clip").textContent);
  const frames = clip.frames.length;
  const cellWidth = clip.width / clip.columns;
  const cellHeight = clip.height / clip.rows;
  const perTubelet = clip.rows * clip.columns;
  const find = (id) => document.getElementById(id);
  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const bits = (packed) => (index) => (packed[index >> 3] >> (7 - (index & 7))) & 1;
  const masks = clip.masks.map((ofRatio) => ofRatio.map((base64) => bits(bytes(base64))));
  const flow = clip.flow && {
    forwards: new Int8Array(bytes(clip.flow.forwards).buffer),
    backwards: new Int8Array(bytes(clip.flow.backwards).buffer),
  };
  const images = clip.frames.map((address) => Object.assign(new Image(), { src: address }));
  const canvases = [...document.querySelectorAll("canvas")];
  const slider = find("frame");
  const ratios = [...document.querySelectorAll("input[name=ratio]")];
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const thin = clip.width / 448;
  const sharp = Math.max(1, Math.round(448 / clip.width));  // small clips are drawn larger, so that lines are thin
  let frame = 0;
  let ratio = ratios.findIndex((one) => one.checked);
  let token = null;  // {row, column, frame}: where it was marked
  let timer = null;

  for (const canvas of canvases) {
    canvas.width = clip.width * sharp;
    canvas.height = clip.height * sharp;
  }

  // Flow at a point, bilinear between the tokens' centres; pair p is frames p and p + 1.
  function flowAt(values, pair, x, y) {
    const column = Math.min(Math.max(x / cellWidth - 0.5, 0), clip.columns - 1);
    const row = Math.min(Math.max(y / cellHeight - 0.5, 0), clip.rows - 1);
    const left = Math.min(Math.floor(column), Math.max(clip.columns - 2, 0));
    const top = Math.min(Math.floor(row), Math.max(clip.rows - 2, 0));
    const sum = [0, 0];
    for (const [r, weightRow] of [[top, 1 - (row - top)], [top + 1, row - top]]) {
      for (const [c, weightColumn] of [[left, 1 - (column - left)], [left + 1, column - left]]) {
        const weight = weightRow * weightColumn;
        if (weight > 0) {
          const at = 2 * ((pair * clip.rows + r) * clip.columns + c);
          sum[0] += weight * values[at] * clip.flow.unit;
          sum[1] += weight * values[at + 1] * clip.flow.unit;
        }
      }
    }
    return sum;
  }

  // Where the marked token's centre is in every frame; it ends where it leaves the picture.
  function path() {
    const start = [(token.column + 0.5) * cellWidth, (token.row + 0.5) * cellHeight];
    const places = new Map([[token.frame, start]]);
    if (!flow) return places;
    for (const [values, step] of [[flow.forwards, 1], [flow.backwards, -1]]) {
      let [x, y] = start;
      for (let at = token.frame; at + step >= 0 && at + step < frames; at += step) {
        const [dx, dy] = flowAt(values, step > 0 ? at : at - 1, x, y);
        [x, y] = [x + dx, y + dy];
        if (x < 0 || y < 0 || x >= clip.width || y >= clip.height) break;
        places.set(at + step, [x, y]);
      }
    }
    return places;
  }

  // A line that is seen on any picture: light on dark.
  function stroke(pen, width, colour) {
    pen.lineWidth = (width + 2) * thin;
    pen.strokeStyle = "rgb(0 0 0 / .65)";
    pen.stroke();
    pen.lineWidth = width * thin;
    pen.strokeStyle = colour;
    pen.stroke();
  }

  function drawMask(pen, visible) {
    pen.fillStyle = "rgb(212 212 212 / .86)";
    const first = Math.floor(frame / clip.tubelet) * perTubelet;
    for (let row = 0; row < clip.rows; row++) {
      for (let column = 0; column < clip.columns; column++) {
        if (!visible(first + row * clip.columns + column)) {
          pen.fillRect(column * cellWidth, row * cellHeight, cellWidth, cellHeight);
        }
      }
    }
  }

  function drawFlow(pen) {
    const forwards = frame < frames - 1;
    pen.beginPath();
    for (let row = 0; row < clip.rows; row++) {
      for (let column = 0; column < clip.columns; column++) {
        const [x, y] = [(column + 0.5) * cellWidth, (row + 0.5) * cellHeight];
        const way = forwards ? flowAt(flow.forwards, frame, x, y) : flowAt(flow.backwards, frame - 1, x, y);
        const [dx, dy] = forwards ? way : [-way[0], -way[1]];
        const length = Math.hypot(dx, dy);
        if (length < 0.25) continue;
        const head = Math.min(length, cellWidth / 3);
        pen.moveTo(x, y);
        pen.lineTo(x + dx, y + dy);
        for (const turn of [2.6, -2.6]) {
          const angle = Math.atan2(dy, dx) + turn;
          pen.moveTo(x + dx, y + dy);
          pen.lineTo(x + dx + head * Math.cos(angle), y + dy + head * Math.sin(angle));
        }
      }
    }
    stroke(pen, 1.5, "#ffd54a");
  }

  function drawPath(pen, places) {
    const points = [...places].sort((one, other) => one[0] - other[0]);
    pen.beginPath();
    points.forEach(([, [x, y]], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    stroke(pen, 2.5, "#7df9ff");
    if (frame === token.frame) {
      pen.beginPath();
      pen.rect(token.column * cellWidth, token.row * cellHeight, cellWidth, cellHeight);
      stroke(pen, 2, "#7df9ff");
    }
    if (places.has(frame)) {
      pen.beginPath();
      pen.arc(...places.get(frame), cellWidth / 5, 0, 2 * Math.PI);
      stroke(pen, 3, "#fff");
    }
  }

  function shown(strategy) {
    const visible = masks[ratio][strategy];
    const first = Math.floor(frame / clip.tubelet) * perTubelet;
    let count = 0;
    for (let index = 0; index < perTubelet; index++) count += visible(first + index);
    return count;
  }

  function draw() {
    const places = token && path();
    canvases.forEach((canvas, strategy) => {
      const pen = canvas.getContext("2d");
      pen.setTransform(sharp, 0, 0, sharp, 0, 0);
      pen.drawImage(images[frame], 0, 0, clip.width, clip.height);
      if (find("masks").checked) drawMask(pen, masks[ratio][strategy]);
      if (flow && find("arrows").checked) drawFlow(pen);
      if (token) drawPath(pen, places);
      find(`seen${strategy}`).textContent = `${shown(strategy)} of ${perTubelet} visible`;
    });
    slider.value = frame;
    find("number").textContent = frame;
    for (const matrix of document.querySelectorAll(".matrix")) matrix.hidden = Number(matrix.dataset.ratio) !== ratio;
  }

  function say() {
    if (!token) {
      find("token").textContent = flow
        ? "Point at a token, or press Shift and an arrow key, to see where the flow carries its centre."
        : "Point at a token, or press Shift and an arrow key, to see who shows it.";
      return;
    }
    const index = Math.floor(token.frame / clip.tubelet) * perTubelet + token.row * clip.columns + token.column;
    const by = clip.strategies.filter((_, strategy) => masks[ratio][strategy](index));
    let words = `Frame ${token.frame}, token in row ${token.row}, column ${token.column}: `;
    words += by.length ? `visible with ${by.join(", ")}.` : "hidden by all.";
    if (flow) {
      const places = path();
      const inside = [...places.keys()].sort((one, other) => one - other);
      const [from, to] = [inside[0], inside[inside.length - 1]];
      const [dx, dy] = [0, 1].map((axis) => Math.round(places.get(to)[axis] - places.get(from)[axis]));
      words += ` From frame ${from} to ${to} its centre moves ${Math.abs(dx)} pixels ${dx < 0 ? "left" : "right"} and `;
      words += `${Math.abs(dy)} ${dy < 0 ? "up" : "down"}.`;
    }
    find("token").textContent = words;
  }

  function setFrame(next) {
    frame = (next + frames) % frames;
    draw();
  }

  function setRatio(next) {
    if (next < 0 || next >= ratios.length) return;
    ratio = next;
    ratios[ratio].checked = true;
    draw();
    say();
  }

  function mark(next) {
    if (JSON.stringify(next) === JSON.stringify(token)) return;
    token = next;
    draw();
    say();
  }

  function play(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => setFrame(frame + 1), calm.matches ? 1000 : 200) : null;
    find("play").textContent = on ? "Pause" : "Play";
  }

  function under(canvas, event) {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * clip.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * clip.rows);
    const within = column >= 0 && row >= 0 && column < clip.columns && row < clip.rows;
    return within ? { row, column, frame } : null;
  }

  function toggle(id) {
    const box = find(id);
    if (!box) return;
    box.checked = !box.checked;
    draw();
  }

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function move([right, down]) {
    const from = token || { row: Math.floor(clip.rows / 2), column: Math.floor(clip.columns / 2) };
    const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
    const moved = token ? [from.row + down, from.column + right] : [from.row, from.column];
    mark({ row: within(moved[0], clip.rows), column: within(moved[1], clip.columns), frame });
  }

  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const kind = event.target.type || event.target.tagName;
    if (arrows[event.key]) {
      if (event.shiftKey) move(arrows[event.key]);
      else if (kind === "range" || kind === "radio") return;  // which have arrow keys of their own
      else if (arrows[event.key][0]) setFrame(frame + arrows[event.key][0]);
      else setRatio(ratio - arrows[event.key][1]);
    } else if (event.key === " ") {
      if (kind === "button" || kind === "checkbox" || kind === "SUMMARY") return;
      play(timer === null);
    } else if (event.key === "Escape") mark(null);
    else if (!find("characters").checked) return;
    else if (/^[1-9]$/.test(event.key)) setRatio(Number(event.key) - 1);
    else if (event.key === "f" || event.key === "F") toggle("arrows");
    else if (event.key === "m" || event.key === "M") toggle("masks");
    else return;
    event.preventDefault();
  }

  for (const canvas of canvases) {
    canvas.addEventListener("pointermove", (event) => mark(under(canvas, event)));
    canvas.addEventListener("pointerdown", (event) => mark(under(canvas, event)));
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && mark(null));
  }
  slider.addEventListener("input", () => setFrame(Number(slider.value)));
  ratios.forEach((one, index) => one.addEventListener("change", () => setRatio(index)));
  find("play").addEventListener("click", () => play(timer === null));
  for (const id of ["masks", "arrows"]) find(id)?.addEventListener("change", draw);
  document.addEventListener("keydown", pressed);
  Promise.all(images.map((image) => image.decode())).then(() => {
    setFrame(0);
    say();
    document.documentElement.dataset.ready = "true";
  });
})();
