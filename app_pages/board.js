// A picture to paint on. What is painted is kept in Python: here only what Python has not heard of yet.
// Places are [right, down], 0 to 1 of the picture; a width is of its longer side.

const SIDE = 896; // pixels that are drawn on, of the longer side: enough for a screen with two to the point

export default function ({ data, parentElement, setTriggerValue }) {
  const board = parentElement.querySelector(".board");
  const [picture, canvas] = board.children;
  board.data = data;
  board.send = (marks) => setTriggerValue("marks", marks);
  board.unheard = (board.unheard ?? []).filter((mark) => mark.id > data.heard);
  if (picture.src !== data.picture) picture.src = data.picture;
  picture.alt = data.alt;
  picture.style.aspectRatio = `${data.size[1]} / ${data.size[0]}`;
  picture.style.imageRendering = data.size[0] < 64 ? "pixelated" : "auto";
  canvas.style.cursor = data.tool === "brush" ? "crosshair" : "pointer";
  const scale = SIDE / Math.max(...data.size);
  [canvas.height, canvas.width] = data.size.map((side) => Math.round(side * scale)); // this also wipes it
  if (!board.listens) listen(board, canvas);
  draw(board, canvas);
}

function listen(board, canvas) {
  board.listens = true;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.onpointerdown = (event) => {
    if (event.button !== 0 || board.mark) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    const { tool, width } = board.data;
    board.last = Math.max(Date.now(), (board.last ?? 0) + 1);
    board.mark = { id: board.last, tool, width, points: [place(event)] };
    draw(board, canvas);
  };
  canvas.onpointermove = (event) => {
    if (board.mark?.tool !== "brush") return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const at of (events.length ? events : [event]).map(place)) {
      const [x, y] = board.mark.points.at(-1);
      if (Math.hypot(at[0] - x, at[1] - y) > board.mark.width / 8) board.mark.points.push(at); // more would not show
    }
    draw(board, canvas);
  };
  canvas.onpointerup = (event) => {
    if (!board.mark) return;
    if (board.mark.tool === "brush") board.mark.points.push(place(event));
    board.unheard.push(board.mark);
    board.mark = null;
    board.send(board.unheard);
  };
  canvas.onpointercancel = () => {
    board.mark = null;
    draw(board, canvas);
  };
}

function draw(board, canvas) {
  const { colour, strokes, cells, lines } = board.data;
  const pen = canvas.getContext("2d");
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = pen.strokeStyle = colour;
  pen.lineCap = pen.lineJoin = "round";
  for (const [top, left, bottom, right] of cells) {
    pen.fillRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  }
  const fresh = [...board.unheard, board.mark].filter((mark) => mark?.tool === "brush");
  for (const stroke of [...strokes, ...fresh]) {
    const places = stroke.points.map(([x, y]) => [x * width, y * height]);
    pen.lineWidth = stroke.width * SIDE;
    pen.beginPath();
    pen.moveTo(...places[0]);
    for (const at of places) pen.lineTo(...at);
    pen.stroke();
  }
  for (const [shift, shade] of [[-3, "black"], [0, "white"]]) { // side by side, to be seen on any colour
    pen.fillStyle = shade;
    for (const at of lines[0]) pen.fillRect(0, at * height + shift, width, 3);
    for (const at of lines[1]) pen.fillRect(at * width + shift, 0, 3, height);
  }
}
