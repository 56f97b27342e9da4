// The map of many pictures. Coordinates: `world` is the square [0, 1]² of the map, `screen` CSS pixels of the canvas.

const FRAME = 1.5, LEAST = 18, SHAPES = 6, NEAR = 14, MOST_ZOOM = 60, MOST_MOVED = 2000; // more points than that jump

export default function ({ data, parentElement, setTriggerValue, setStateValue }) {
  const map = (parentElement.__map ??= build(parentElement));
  map.tell = { picked: (row) => setTriggerValue("picked", row), lassoed: (rows) => setStateValue("lassoed", rows) };
  take(map, data);
  return () => {
    map.watcher.disconnect();
    cancelAnimationFrame(map.frame);
    delete parentElement.__map;
  };
}

function build(root) {
  const find = (name) => root.querySelector(`.${name}`);
  const map = {
    root, canvas: find("canvas"), tip: find("tip"), legend: find("legend"), note: find("note"),
    buttons: { pictures: find("pictures"), lasso: find("lasso"), whole: find("whole"), nearer: find("nearer"), farther: find("farther") },
    view: { zoom: 1, x: 0.5, y: 0.5 }, hidden: new Set(), pointers: new Map(), lasso: null, inside: new Set(),
    drawing: false, hover: -1, pictures: true, side: 0, drawn: null, frame: 0, sprites: [],
  };
  listen(map);
  map.watcher = new ResizeObserver(() => resize(map));
  map.watcher.observe(map.canvas);
  return map;
}

// ---- what comes from Python ---------------------------------------------------------------------------------------

function take(map, data) {
  const places = new Uint16Array(bytes(data.points).buffer);
  const count = places.length / 2;
  const target = Float32Array.from(places, (place) => place / 65535);
  const same = map.identity === data.identity && map.count === count;
  if (!same) Object.assign(map, { view: { zoom: 1, x: 0.5, y: 0.5 }, lasso: null, inside: new Set(), hidden: new Set(), hover: -1 });
  Object.assign(map, {
    identity: data.identity, count, classes: data.classes, names: data.names, labels: new Uint16Array(bytes(data.labels).buffer),
    opacity: data.opacity ? bytes(data.opacity) : null, marks: data.marks, colours: data.colours, dots: data.dots,
  });
  map.canvas.setAttribute("aria-label", data.title);
  map.sprites = [];
  if (map.atlas?.src !== data.atlas) {
    map.atlas = null;
    if (data.atlas) {
      const image = new Image();
      image.onload = () => { map.atlas = image; redraw(map); };
      image.src = data.atlas;
    }
  }
  map.cell = data.cell;
  map.buttons.pictures.hidden = !data.atlas;
  list(map);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  move(map, target, same && !still && count <= MOST_MOVED && map.places);
  resize(map);
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function move(map, target, smoothly) {
  map.target = target;
  if (!smoothly) { map.places = target; return; }
  const from = map.places, start = performance.now();
  const step = (now) => {
    if (map.target !== target) return;
    const share = Math.min(1, (now - start) / 200);
    map.places = share === 1 ? target : target.map((to, i) => from[i] + (to - from[i]) * share);
    redraw(map);
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function list(map) {
  map.legend.replaceChildren(...map.classes.map((name, number) => {
    const entry = document.createElement("button"), swatch = document.createElement("canvas"), text = document.createElement("span");
    entry.type = "button";
    entry.setAttribute("aria-pressed", String(!map.hidden.has(number)));
    text.textContent = name;  // as text: class names come from strangers
    entry.title = name;
    swatch.width = swatch.height = 28;
    shape(swatch.getContext("2d"), 14, 14, 10, number, map);
    entry.append(swatch, text);
    entry.onclick = () => {
      map.hidden.has(number) ? map.hidden.delete(number) : map.hidden.add(number);
      entry.setAttribute("aria-pressed", String(!map.hidden.has(number)));
      redraw(map);
    };
    return entry;
  }));
}

// ---- drawing ------------------------------------------------------------------------------------------------------

function resize(map) {
  const side = map.canvas.clientWidth;
  if (!side) return;
  map.side = side;
  map.scale = window.devicePixelRatio || 1;
  map.canvas.width = map.canvas.height = Math.round(side * map.scale);
  map.sprites = [];
  redraw(map);
}

function redraw(map) {
  cancelAnimationFrame(map.frame);
  map.frame = requestAnimationFrame(() => draw(map));
}

const onScreen = (map, row) => [
  ((map.places[2 * row] - map.view.x) * map.view.zoom + 0.5) * map.side,
  ((map.places[2 * row + 1] - map.view.y) * map.view.zoom + 0.5) * map.side,
];

function sizeOf(map) {
  // Dots touch where there are many; thumbnails grow slower than the map, so that zooming in parts what overlaps.
  const spacing = map.side / Math.sqrt(Math.max(map.count, 1));
  const dot = Math.min(11, Math.max(4, 0.45 * spacing)) * Math.min(2, Math.sqrt(map.view.zoom));
  const picture = Math.min(72, 0.7 * spacing * Math.pow(map.view.zoom, 0.8));
  return { dot, picture: map.pictures && map.atlas && picture >= LEAST ? picture : 0 };
}

function draw(map) {
  const context = map.canvas.getContext("2d"), { side, view } = map;
  context.setTransform(map.scale, 0, 0, map.scale, 0, 0);
  context.clearRect(0, 0, side, side);
  const size = sizeOf(map), half = (size.picture || size.dot) / 2 + 2, dimmed = map.inside.size > 0;
  const columns = map.atlas ? Math.floor(map.atlas.naturalWidth / map.cell) : 0;
  let drawn = 0;
  for (let row = 0; row < map.count; row++) {
    if (map.hidden.has(map.labels[row])) continue;
    const [x, y] = onScreen(map, row);
    if (x < -half || y < -half || x > side + half || y > side + half) continue;
    drawn++;
    context.globalAlpha = (map.opacity ? map.opacity[row] / 255 : 1) * (dimmed && !map.inside.has(row) ? 0.15 : 1);
    if (size.picture) {
      const left = x - size.picture / 2, top = y - size.picture / 2;
      context.fillStyle = map.colours[map.labels[row] % map.colours.length];
      context.fillRect(left - FRAME, top - FRAME, size.picture + 2 * FRAME, size.picture + 2 * FRAME);
      context.drawImage(map.atlas, (row % columns) * map.cell, Math.floor(row / columns) * map.cell, map.cell, map.cell, left, top, size.picture, size.picture);
    } else {
      const image = sprite(map, map.labels[row], size.dot);
      context.drawImage(image, x - size.dot, y - size.dot, 2 * size.dot, 2 * size.dot);
    }
  }
  context.globalAlpha = 1;
  mark(map, context);
  outline(map, context);
  map.canvas.dataset.drawn = String(drawn);
  map.canvas.dataset.zoom = view.zoom.toFixed(2);
}

function sprite(map, label, size) {
  const key = `${label} ${size.toFixed(1)}`;
  if (!map.sprites[key]) {
    const image = document.createElement("canvas");
    image.width = image.height = Math.ceil(2 * size * map.scale);
    const context = image.getContext("2d");
    context.scale(map.scale, map.scale);
    shape(context, size, size, size / 2, label, map);
    map.sprites[key] = image;
  }
  return map.sprites[key];
}

// Seven colours and six shapes have no common divisor: 42 classes differ in one of the two, and neighbours in both.
function shape(context, x, y, r, label, map) {
  const polygon = (...corners) => { context.beginPath(); corners.forEach(([u, v]) => context.lineTo(x + u * r, y + v * r)); context.closePath(); };
  context.fillStyle = map.colours[label % map.colours.length];
  const kind = label % SHAPES, third = 0.36;
  if (kind === 0) { context.beginPath(); context.arc(x, y, r, 0, 2 * Math.PI); }
  else if (kind === 1) polygon([0, -1.15], [1.15, 0], [0, 1.15], [-1.15, 0]);
  else if (kind === 2) polygon([0, -1.1], [1.1, 0.9], [-1.1, 0.9]);
  else if (kind === 3) polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
  else if (kind === 4) polygon([-1.1, -0.9], [1.1, -0.9], [0, 1.1]);
  else polygon([-third, -1.1], [third, -1.1], [third, -third], [1.1, -third], [1.1, third], [third, third], [third, 1.1], [-third, 1.1], [-third, third], [-1.1, third], [-1.1, -third], [-third, -third]);
  context.fill();
}

// The current picture on the map: a cross in a ring, full lines to neighbours kept, dashed ones to those lost.
function mark(map, context) {
  if (!map.marks) return;
  const { place, kept, lost } = map.marks, ink = inkOf(map);
  const x = ((place[0] - map.view.x) * map.view.zoom + 0.5) * map.side, y = ((place[1] - map.view.y) * map.view.zoom + 0.5) * map.side;
  context.strokeStyle = ink;
  for (const [rows, dash] of [[kept, []], [lost, [3, 4]]]) {
    context.setLineDash(dash);
    context.lineWidth = dash.length ? 1 : 1.8;
    for (const row of rows) {
      const [u, v] = onScreen(map, row);
      context.beginPath(); context.moveTo(x, y); context.lineTo(u, v); context.stroke();
      context.beginPath(); context.arc(u, v, 9, 0, 2 * Math.PI); context.stroke();
    }
  }
  context.setLineDash([]);
  for (const [colour, width] of [[getComputedStyle(map.canvas).backgroundColor, 6], [ink, 3]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath(); context.arc(x, y, 12, 0, 2 * Math.PI); context.stroke();
    context.beginPath(); context.moveTo(x - 6, y); context.lineTo(x + 6, y); context.moveTo(x, y - 6); context.lineTo(x, y + 6); context.stroke();
  }
}

const inkOf = (map) => getComputedStyle(map.canvas).color;

function outline(map, context) {
  if (!map.lasso || map.lasso.length < 2) return;
  context.strokeStyle = inkOf(map);
  context.lineWidth = 1.5;
  context.setLineDash([5, 4]);
  context.beginPath();
  for (const [u, v] of map.lasso) context.lineTo(((u - map.view.x) * map.view.zoom + 0.5) * map.side, ((v - map.view.y) * map.view.zoom + 0.5) * map.side);
  if (!map.drawing) context.closePath();
  context.stroke();
  context.setLineDash([]);
}

// ---- what a person does -------------------------------------------------------------------------------------------

function listen(map) {
  const { canvas, buttons } = map;
  canvas.onpointerdown = (event) => down(map, event);
  canvas.onpointermove = (event) => over(map, event);
  canvas.onpointerup = canvas.onpointercancel = (event) => up(map, event);
  canvas.onpointerleave = () => { if (!map.pointers.size) { map.used = false; point(map, -1); } };
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !map.used) { say(map, "Ctrl and the wheel, or + and −, zoom"); return; }
    event.preventDefault();
    zoom(map, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), at(map, event));
  }, { passive: false });
  canvas.ondblclick = () => whole(map);
  canvas.onkeydown = (event) => {
    const step = 0.1 / map.view.zoom;
    const keys = {
      "+": () => zoom(map, 1.4), "=": () => zoom(map, 1.4), "-": () => zoom(map, 1 / 1.4), 0: () => whole(map), Escape: () => { map.used = false; forget(map); },
      ArrowLeft: () => shift(map, -step, 0), ArrowRight: () => shift(map, step, 0), ArrowUp: () => shift(map, 0, -step), ArrowDown: () => shift(map, 0, step),
    };
    if (event.ctrlKey || event.metaKey || !keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
  };
  buttons.nearer.onclick = () => zoom(map, 1.6);
  buttons.farther.onclick = () => zoom(map, 1 / 1.6);
  buttons.whole.onclick = () => whole(map);
  buttons.lasso.onclick = () => press(map, "lasso", !(map.lassoing = !map.lassoing));
  buttons.pictures.onclick = () => { press(map, "pictures", !(map.pictures = !map.pictures)); redraw(map); };
}

function press(map, name, off) {
  map.buttons[name].setAttribute("aria-pressed", String(!off));
  if (name === "lasso") {
    map.canvas.classList.toggle("lassoing", !off);
    if (off) forget(map);
    else say(map, "Draw around the pictures");
  }
}

const at = (map, event) => {
  const box = map.canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const world = (map, [x, y]) => [(x / map.side - 0.5) / map.view.zoom + map.view.x, (y / map.side - 0.5) / map.view.zoom + map.view.y];

function down(map, event) {
  map.canvas.setPointerCapture(event.pointerId);
  map.pointers.set(event.pointerId, at(map, event));
  map.used = true; // from now on the wheel is the map's, until the pointer has left it
  map.moved = 0;
  if (map.lassoing && map.pointers.size === 1) {
    map.drawing = true;
    map.lasso = [world(map, at(map, event))];
  }
}

function over(map, event) {
  const now = at(map, event), before = map.pointers.get(event.pointerId);
  if (!before) { point(map, nearest(map, now), now); return; }
  map.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
  if (map.drawing) {
    map.lasso.push(world(map, now));
    redraw(map);
  } else if (map.pointers.size === 1) {
    shift(map, (before[0] - now[0]) / map.side / map.view.zoom, (before[1] - now[1]) / map.side / map.view.zoom);
  } else {
    const [other] = [...map.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
    zoom(map, apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }
  map.pointers.set(event.pointerId, now);
}

function up(map, event) {
  const was = map.pointers.delete(event.pointerId);
  if (!was) return;
  if (map.drawing) {
    map.drawing = false;
    if (map.lasso.length > 2) choose(map);
    else forget(map);
  } else if (event.type === "pointerup" && map.moved < 5) {
    const row = nearest(map, at(map, event));
    if (row >= 0) map.tell.picked(row);
  }
  redraw(map);
}

function choose(map) {
  map.inside = new Set();
  for (let row = 0; row < map.count; row++)
    if (!map.hidden.has(map.labels[row]) && within(map.lasso, map.places[2 * row], map.places[2 * row + 1])) map.inside.add(row);
  map.tell.lassoed([...map.inside]);
}

function forget(map) {
  const had = map.inside.size > 0;
  Object.assign(map, { lasso: null, inside: new Set(), drawing: false });
  if (had) map.tell.lassoed([]);
  redraw(map);
}

function within(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

function nearest(map, [x, y]) {
  const size = sizeOf(map), reach = size.picture ? 0.5 * size.picture + 2 : NEAR;
  let best = -1, least = Infinity;
  for (let row = map.count - 1; row >= 0; row--) {  // what was drawn last lies on top
    if (map.hidden.has(map.labels[row])) continue;
    const [u, v] = onScreen(map, row), distance = Math.max(Math.abs(u - x), Math.abs(v - y));
    if (distance <= reach && distance < least) [best, least] = [row, distance];
  }
  return best;
}

function point(map, row, place) {
  if (row === map.hover && row < 0) return;
  map.hover = row;
  map.tip.hidden = row < 0;
  map.canvas.style.cursor = map.lassoing ? "crosshair" : row < 0 ? "grab" : "pointer";
  if (row < 0) return;
  const [thumb, label, name] = map.tip.children, text = map.classes[map.labels[row]];
  label.textContent = text;
  name.textContent = map.names[row] === text ? "" : map.names[row] ?? "";
  thumb.hidden = !map.atlas;
  if (map.atlas) {
    const columns = Math.floor(map.atlas.naturalWidth / map.cell);
    thumb.getContext("2d").drawImage(map.atlas, (row % columns) * map.cell, Math.floor(row / columns) * map.cell, map.cell, map.cell, 0, 0, thumb.width, thumb.height);
  }
  const right = place[0] < map.side / 2, below = place[1] < map.side / 2;
  Object.assign(map.tip.style, {
    left: right ? `${place[0] + 16}px` : "", right: right ? "" : `${map.side - place[0] + 16}px`,
    top: below ? `${place[1] + 12}px` : "", bottom: below ? "" : `${map.side - place[1] + 12}px`,
  });
}

function zoom(map, factor, [x, y] = [map.side / 2, map.side / 2]) {
  const [u, v] = world(map, [x, y]);
  map.view.zoom = Math.min(MOST_ZOOM, Math.max(0.8, map.view.zoom * factor));
  map.view.x = u - (x / map.side - 0.5) / map.view.zoom;  // what lies under the pointer stays there
  map.view.y = v - (y / map.side - 0.5) / map.view.zoom;
  point(map, -1);
  redraw(map);
}

function shift(map, x, y) {
  map.view.x = Math.min(1, Math.max(0, map.view.x + x));
  map.view.y = Math.min(1, Math.max(0, map.view.y + y));
  redraw(map);
}

function whole(map) {
  map.view = { zoom: 1, x: 0.5, y: 0.5 };
  redraw(map);
}

function say(map, sentence) {
  map.note.textContent = sentence;
  clearTimeout(map.saying);
  map.saying = setTimeout(() => { map.note.textContent = ""; }, 2500);
}
