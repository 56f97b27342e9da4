// A kernel that slides over a grid. Everything comes computed from Python; here is only which step is shown.

const WIDE = 48;
const HIGH = 34;
const PACE = 900; // milliseconds a step
const SVG = "http://www.w3.org/2000/svg";

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".sliding");
  const asked = JSON.stringify(data);
  if (root.asked === asked) return; // drawn anew for another reason: the step stays
  stop(root);
  root.asked = asked;
  root.data = data;
  root.steps = data.output.texts.length * data.output.texts[0].length;
  const slider = root.querySelector("input");
  slider.max = root.steps - 1;
  slider.value = 0;
  slider.oninput = () => (stop(root), draw(root));
  root.querySelector(".back").onclick = () => (stop(root), move(root, -1));
  root.querySelector(".on").onclick = () => (stop(root), move(root, 1));
  root.querySelector(".play").onclick = () => (root.timer ? stop(root) : play(root));
  draw(root);
  return () => stop(root);
}

function play(root) {
  const slider = root.querySelector("input");
  if (Number(slider.value) === root.steps - 1) slider.value = 0;
  draw(root);
  root.timer = setInterval(() => {
    if (!root.isConnected || Number(slider.value) >= root.steps - 1) stop(root);
    else move(root, 1);
  }, PACE);
  root.querySelector(".play").textContent = "Pause";
}

function stop(root) {
  clearInterval(root.timer);
  root.timer = null;
  root.querySelector(".play").textContent = "Play";
}

function move(root, by) {
  const slider = root.querySelector("input");
  slider.value = Number(slider.value) + by;
  draw(root);
}

function draw(root) {
  const { grid, output, kernel, sums, stride, dilation, offset } = root.data;
  const step = Number(root.querySelector("input").value);
  const columns = output.texts[0].length;
  const [row, column] = [Math.floor(step / columns), step % columns];
  const under = new Map(); // the kernel's numbers by the cell on which they lie
  kernel.forEach((line, a) =>
    line.forEach((weight, b) => under.set(`${row * stride + a * dilation},${column * stride + b * dilation}`, weight)),
  );
  paint(root.querySelector(".grid"), grid, (r, c) => ({
    hatched: !grid.inside[r][c],
    weight: under.get(`${r},${c}`),
  }));
  paint(root.querySelector(".output"), output, (r, c) => ({
    hidden: r * columns + c > step,
    framed: r === row && c === column,
  }));
  const place = `row ${row * stride - offset}, column ${column * stride - offset}`;
  root.querySelector(".sum").textContent = sums[row][column];
  root.querySelector(".count").textContent = `step ${step + 1} of ${root.steps}`;
  root.querySelector(".grid").setAttribute("aria-label", `The kernel with its first cell at ${place} of the grid`);
  root.querySelector(".output").setAttribute("aria-label", `Output up to row ${row}, column ${column}`);
  root.querySelector(".back").disabled = step === 0;
  root.querySelector(".on").disabled = step === root.steps - 1;
}

function paint(svg, cells, look) {
  const [height, width] = [cells.texts.length, cells.texts[0].length];
  svg.setAttribute("viewBox", `-2 -2 ${width * WIDE + 4} ${height * HIGH + 4}`);
  svg.setAttribute("width", width * WIDE + 4);
  svg.replaceChildren();
  const over = [];
  cells.texts.forEach((line, r) =>
    line.forEach((text, c) => {
      const [x, y] = [c * WIDE, r * HIGH];
      const { hatched, weight, hidden, framed } = look(r, c);
      add(svg, "rect", { x, y, width: WIDE, height: HIGH, fill: hidden ? "none" : cells.fills[r][c], stroke: "#8888" });
      if (hatched) add(svg, "path", { d: `M${x} ${y + HIGH}L${x + WIDE} ${y}`, stroke: "#8f949c", "stroke-width": 2 });
      if (!hidden) {
        const up = weight === undefined ? HIGH / 2 + 5 : 15;
        add(svg, "text", { x: x + WIDE / 2, y: y + up, fill: hatched ? "#6b7078" : cells.inks[r][c] }, text);
      }
      if (weight !== undefined) {
        const ink = cells.inks[r][c];
        add(svg, "text", { x: x + WIDE - 4, y: y + HIGH - 5, fill: ink, "font-size": 11, "text-anchor": "end" }, `× ${weight}`);
      }
      if (weight !== undefined || framed) over.push([x, y]);
    }),
  );
  for (const [x, y] of over) {
    const line = { width: WIDE - 4, height: HIGH - 4, fill: "none", stroke: "#00b8d4", "stroke-width": 3 };
    add(svg, "rect", { x: x + 2, y: y + 2, ...line });
  }
}

function add(svg, kind, attributes, text) {
  const element = document.createElementNS(SVG, kind);
  const all = kind === "text" ? { "text-anchor": "middle", "font-size": 14, ...attributes } : attributes;
  for (const [name, value] of Object.entries(all)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  svg.append(element);
}
