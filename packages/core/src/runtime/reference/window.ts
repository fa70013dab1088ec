/** The windows of convolutions and pooling: which input pixels an output pixel sees. */

/** The WINDOW arguments that say where windows lie. */
export interface Window {
  readonly h: number;
  readonly w: number;
  readonly oh: number;
  readonly ow: number;
  readonly kh: number;
  readonly kw: number;
  readonly sh: number;
  readonly sw: number;
  readonly ph: number;
  readonly pw: number;
  readonly dh: number;
  readonly dw: number;
}

/** One tap of one window: all positions are pixel numbers (row-major) within the image, kernel and output. */
export interface Tap {
  /** Input pixel iy * w + ix. */
  readonly pixel: number;
  /** Kernel position ky * kw + kx. */
  readonly tap: number;
  /** Output pixel oy * ow + ox. */
  readonly out: number;
}

/** The taps inside the image of the window of output pixel (oy, ox), in row-major order. */
export function windowTaps(g: Window, oy: number, ox: number): Tap[] {
  const taps: Tap[] = [];
  for (let ky = 0; ky < g.kh; ky++)
    for (let kx = 0; kx < g.kw; kx++) {
      const iy = oy * g.sh - g.ph + ky * g.dh;
      const ix = ox * g.sw - g.pw + kx * g.dw;
      if (iy >= 0 && iy < g.h && ix >= 0 && ix < g.w) taps.push({ pixel: iy * g.w + ix, tap: ky * g.kw + kx, out: oy * g.ow + ox });
    }
  return taps;
}

/** The taps of every window, windows in row-major order. */
export function allTaps(g: Window): Tap[] {
  const taps: Tap[] = [];
  for (let oy = 0; oy < g.oh; oy++) for (let ox = 0; ox < g.ow; ox++) taps.push(...windowTaps(g, oy, ox));
  return taps;
}
