// Pixels between canvases, whose fourth channel is opaque here, and frames: three bytes a pixel.

export function frameOf(context) {
  const { width, height } = context.canvas;
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return { height, width, rgb };
}

// seen: { height, width, rgb in base64 }
export function showSeen(canvas, seen) {
  canvas.width = seen.width;
  canvas.height = seen.height;
  const bytes = atob(seen.rgb);
  const pixels = new ImageData(seen.width, seen.height);
  for (let from = 0, to = 0; from < bytes.length; from += 3, to += 4) {
    for (let channel = 0; channel < 3; channel++) pixels.data[to + channel] = bytes.charCodeAt(from + channel);
    pixels.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
