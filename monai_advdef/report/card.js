"use strict";
// Sorting: the heads of every table become buttons; numbers are compared as numbers, and what is no number comes last.
(() => {
  const value = (cell) => {
    const text = cell.textContent.trim().replace(/−/g, "-").replace(/^[<>≤≥+]\s*/, "");
    const number = parseFloat(text);
    return /^-?\.?\d/.test(text) && Number.isFinite(number) ? number : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  document.querySelectorAll("table.t").forEach((table) => {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 2 || table.tHead.rows.length !== 1) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = [...body.rows].map((row, place) => ({ row, place, key: value(row.cells[column]) }));
        const number = (key) => typeof key === "number";
        keyed.sort((a, b) => (down && number(a.key) === number(b.key) ? -1 : 1) * compare(a.key, b.key) || a.place - b.place);
        keyed.forEach(({ row }) => { row.classList.remove("first"); body.append(row); });
      });
    });
  });
})();

// Slices: a volume in three planes, drawn from the data beside it; without this script one axial slice is shown.
(() => {
  const BLUE = [11, 106, 168], ORANGE = [196, 80, 10];
  const PLANES = ["axial", "coronal", "sagittal"];

  const bytes = async (text) => {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  const grey = async (told) => {  // the mosaic of axial slices as one array, x fastest
    const [nx, ny, nz] = told.shape;
    const picture = new Image();
    picture.src = told.image;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const volume = new Uint8Array(nx * ny * nz);
    for (let z = 0; z < nz; z++) {
      const left = (z % told.columns) * nx, top = Math.floor(z / told.columns) * ny;
      for (let y = 0; y < ny; y++)
        for (let x = 0; x < nx; x++) volume[(z * ny + y) * nx + x] = pixels[4 * ((top + y) * canvas.width + left + x)];
    }
    return volume;
  };

  // width, height, number of slices, size of a pixel, and where in the arrays a pixel of a slice lies
  const geometry = ({ shape: [nx, ny, nz], spacing: [sx, sy, sz] }) => ({
    axial: { w: nx, h: ny, n: nz, sw: sx, sh: sy, at: (u, v, s) => (s * ny + v) * nx + u },
    coronal: { w: nx, h: nz, n: ny, sw: sx, sh: sz, at: (u, v, s) => ((nz - 1 - v) * ny + s) * nx + u },
    sagittal: { w: ny, h: nz, n: nx, sw: sy, sh: sz, at: (u, v, s) => ((nz - 1 - v) * ny + u) * nx + s },
  });

  const borders = (classes, w, h) => {  // closed lines around every class of a slice, corners cut
    const of = (x, y) => (x < 0 || y < 0 || x >= w || y >= h ? 0 : classes[y * w + x]);
    const path = new Path2D();
    for (const c of new Set(classes)) {
      if (c === 0) continue;
      const next = new Map();
      const edge = (x0, y0, x1, y1) => {
        const from = y0 * (w + 1) + x0;
        if (next.has(from)) next.get(from).push([x1, y1]);
        else next.set(from, [[x1, y1]]);
      };
      for (let y = 0; y < h; y++)
        for (let x = 0; x < w; x++) {
          if (classes[y * w + x] !== c) continue;
          if (of(x, y - 1) !== c) edge(x, y, x + 1, y);
          if (of(x + 1, y) !== c) edge(x + 1, y, x + 1, y + 1);
          if (of(x, y + 1) !== c) edge(x + 1, y + 1, x, y + 1);
          if (of(x - 1, y) !== c) edge(x, y + 1, x, y);
        }
      for (const [start, ends] of next)
        while (ends.length) {
          let x = start % (w + 1), y = Math.floor(start / (w + 1)), first = true;
          for (let left = next.get(start); left && left.length; left = next.get(y * (w + 1) + x)) {
            const [nx, ny] = left.pop();
            path[first ? "moveTo" : "lineTo"]((x + nx) / 2, (y + ny) / 2);
            [x, y, first] = [nx, ny, false];
          }
          path.closePath();
        }
    }
    return path;
  };

  const slice = (volume, plane, s) => {
    const found = new volume.constructor(plane.w * plane.h);
    for (let v = 0; v < plane.h; v++) for (let u = 0; u < plane.w; u++) found[v * plane.w + u] = volume[plane.at(u, v, s)];
    return found;
  };

  const paint = (canvas, plane, colour, lines, smooth = true) => {
    const small = document.createElement("canvas");
    [small.width, small.height] = [plane.w, plane.h];
    const pixels = new ImageData(plane.w, plane.h);
    for (let i = 0; i < plane.w * plane.h; i++) pixels.data.set([...colour(i), 255], 4 * i);
    small.getContext("2d").putImageData(pixels, 0, 0);
    const scale = 720 / Math.max(plane.w * plane.sw, plane.h * plane.sh);
    canvas.width = Math.round(plane.w * plane.sw * scale);
    canvas.height = Math.round(plane.h * plane.sh * scale);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = smooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    for (const [path, style, dash] of lines) {
      const scaled = new Path2D();
      scaled.addPath(path, new DOMMatrix().scale(canvas.width / plane.w, canvas.height / plane.h));
      context.setLineDash(dash);
      for (const [stroke, width] of [["rgba(0,0,0,.5)", 9], [style, 4.5]]) {
        [context.strokeStyle, context.lineWidth] = [stroke, width];
        context.stroke(scaled);
      }
    }
  };

  const show = async (data) => {
    const told = JSON.parse(data.textContent);
    const controls = document.querySelector(`.slices[data-row="${data.dataset.row}"]`);
    const [image, steps, label, prediction] = await Promise.all([
      grey(told), bytes(told.difference).then((b) => new Int8Array(b.buffer)), bytes(told.label), bytes(told.prediction),
    ]);
    const planes = geometry(told);
    const at = { sagittal: told.start[0], coronal: told.start[1], axial: told.start[2] };
    const slider = controls.querySelector("input[type=range]"), output = controls.querySelector("output");
    const panels = ["clean", "attacked", "difference"].map((part) => {
      const cell = document.querySelector(`[data-row="${data.dataset.row}"][data-part="${part}"]`);
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      cell.querySelector("svg").replaceWith(canvas);
      return canvas;
    });
    const draw = (name) => {
      const plane = planes[name], s = at[name];
      const [g, d, t, p] = [image, steps, label, prediction].map((volume) => slice(volume, plane, s));
      const [truth, found] = [borders(t, plane.w, plane.h), borders(p, plane.w, plane.h)];
      const tone = (i, change) => { const v = Math.max(0, Math.min(255, g[i] + change)); return [v, v, v]; };
      const signed = (i) => {
        const share = d[i] / told.levels, full = share < 0 ? BLUE : ORANGE;
        return full.map((c) => 246 + Math.abs(share) * (c - 246));
      };
      const white = [truth, "#fff", []], cyan = [found, "#19e3ff", [12, 9]];
      paint(panels[0], plane, (i) => tone(i, 0), [white]);
      paint(panels[1], plane, (i) => tone(i, told.gain * d[i]), [white, cyan]);
      paint(panels[2], plane, signed, [], false);
      const where = `${name} slice ${s + 1} of ${plane.n}`;
      ["clean image", "attacked image", "signed difference"].forEach((what, i) => {
        panels[i].setAttribute("aria-label", `${told.name}, ${what}, ${where}`);
      });
      [slider.min, slider.max, slider.value] = [1, plane.n, s + 1];
      slider.setAttribute("aria-label", `${told.name}: ${name} slice`);
      slider.setAttribute("aria-valuetext", where);
      output.textContent = where;
    };
    let current = "axial";
    slider.addEventListener("input", () => { at[current] = Number(slider.value) - 1; draw(current); });
    controls.querySelectorAll("input[type=radio]").forEach((radio) => {
      radio.addEventListener("change", () => { current = radio.value; draw(current); });
    });
    controls.querySelector(`input[value=${PLANES[0]}]`).checked = true;
    draw(current);
    controls.hidden = false;
    controls.dataset.ready = "true";
  };

  if (typeof DecompressionStream === "undefined") return;
  document.querySelectorAll("script.volume").forEach((data) => { show(data); });
})();
