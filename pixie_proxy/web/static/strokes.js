// What was painted, as a list of strokes: drawn again at any scale, taken back one by one, and written as a mask of the
// image's own size. A list costs nothing to keep, however large the image is.

const STRIP_PIXELS = 1 << 20; // of the mask that are looked at together

/**
 * Draw what was painted, opaque where it is, on a context that stands for an image of `width` × `height`.
 *
 * A stroke is {kind: "brush" | "erase", radius, points: [x, y, x, y, …]} in pixels of the image, {kind: "clear"} or
 * {kind: "invert"}.
 */
export function draw(context, strokes, width, height) {
  context.clearRect(0, 0, width, height);
  for (const stroke of strokes) drawOne(context, stroke, width, height);
}

/** Draw one more stroke. */
export function drawOne(context, stroke, width, height) {
  if (stroke.kind === "clear") context.clearRect(0, 0, width, height);
  else if (stroke.kind === "invert") composed(context, "xor", () => context.fillRect(0, 0, width, height));
  else composed(context, stroke.kind === "erase" ? "destination-out" : "source-over", () => line(context, stroke));
}

/** Give the mask as a PNG of that size: black, and alpha 0 where something was painted. Each pixel is one or the other. */
export async function maskOf(strokes, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  draw(context, [...strokes, { kind: "invert" }], width, height);
  const rows = Math.max(1, Math.floor(STRIP_PIXELS / width));
  for (let top = 0; top < height; top += rows) {
    const strip = context.getImageData(0, top, width, Math.min(rows, height - top));
    const pixels = new Uint32Array(strip.data.buffer);
    for (let at = 0; at < pixels.length; at += 1) pixels[at] = strip.data[4 * at + 3] < 128 ? 0 : 0xff000000;
    context.putImageData(strip, 0, top);
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  canvas.width = canvas.height = 0; // gives the memory back at once
  return blob;
}

/** Tell whether anything is painted at all. */
export function isEmpty(context, width, height) {
  const { data } = context.getImageData(0, 0, width, height);
  for (let at = 3; at < data.length; at += 4) if (data[at] >= 128) return false;
  return true;
}

function line(context, { radius, points }) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * radius;
  context.beginPath();
  if (points.length === 2) {
    context.arc(points[0], points[1], radius, 0, 2 * Math.PI); // a line of no length has no caps
    context.fill();
    return;
  }
  context.moveTo(points[0], points[1]);
  for (let at = 2; at < points.length; at += 2) context.lineTo(points[at], points[at + 1]);
  context.stroke();
}

function composed(context, operation, work) {
  context.globalCompositeOperation = operation;
  work();
  context.globalCompositeOperation = "source-over";
}
