// Dense 3 x 3 convolution with stride 1 by Winograd's minimal filtering F(4 x 4, 3 x 3) (Winograd 1980; Lavin and Gray 2016): 36
// products give 16 outputs that a direct sum needs 144 for. Used for input gradients, where no operand is a spike.
//
// The interpolation points are 0, +-3/4, +-3/2 and infinity. They are exact in binary, lie in pairs, which halves the work of the
// transforms, and lose far less than the usual 0, +-1, +-2: the largest error is about that of a direct float32 sum.
//
// A block of tiles (4 x 4 outputs each) is transformed to 36 matrices [tiles, ci], each multiplied with its matrix of the
// transformed weights, and transformed back; all of it stays in scratch. The order of additions of an element depends on ci alone.
#pragma once

// Squares and products of the points A = 3/4, B = 3/2.
static const float WINO_A = 0.75f, WINO_B = 1.5f, WINO_AA = 0.5625f, WINO_BB = 2.25f, WINO_SUM = WINO_AA + WINO_BB, WINO_PRODUCT = WINO_AA * WINO_BB;
#define WINO_POINTS 36
// Tiles are taken in multiples of this, a multiple of every instruction set's MR.
#define WINO_TILES 12
// Transformed weights lie in panels of so many columns, which every instruction set's NR divides.
#define WINO_PANEL 32
static_assert(WINO_PANEL % NR == 0 && WINO_TILES % MR == 0, "blocking");

// Six numbers of a line of the input: v = B^T d.
INLINE void wino_input(const vf d[6], vf v[6]) {
  const vf even_a = d[4] - d[2] * WINO_BB, odd_a = (d[3] - d[1] * WINO_BB) * WINO_A;
  const vf even_b = d[4] - d[2] * WINO_AA, odd_b = (d[3] - d[1] * WINO_AA) * WINO_B;
  v[0] = d[0] * WINO_PRODUCT - d[2] * WINO_SUM + d[4];
  v[1] = even_a + odd_a;
  v[2] = even_a - odd_a;
  v[3] = even_b + odd_b;
  v[4] = even_b - odd_b;
  v[5] = d[1] * WINO_PRODUCT - d[3] * WINO_SUM + d[5];
}
// Four outputs of a line: y = A^T m.
INLINE void wino_output(const vf m[6], vf y[4]) {
  const vf even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  y[0] = m[0] + even_a + even_b;
  y[1] = odd_a * WINO_A + odd_b * WINO_B;
  y[2] = even_a * WINO_AA + even_b * WINO_BB;
  y[3] = odd_a * (WINO_A * WINO_AA) + odd_b * (WINO_B * WINO_BB) + m[5];
}
// Six numbers of a line of the window: u = G g.
INLINE void wino_weight(const vf g[3], vf u[6]) {
  const float a = 1 / (2 * WINO_AA * (WINO_AA - WINO_BB)), b = 1 / (2 * WINO_BB * (WINO_BB - WINO_AA));
  const vf even_a = (g[0] + g[2] * WINO_AA) * a, odd_a = g[1] * (WINO_A * a);
  const vf even_b = (g[0] + g[2] * WINO_BB) * b, odd_b = g[1] * (WINO_B * b);
  u[0] = g[0] * (1 / WINO_PRODUCT);
  u[1] = even_a + odd_a;
  u[2] = even_a - odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = g[2];
}

// u [36][co / 32][ci][32] from wt [3, 3, ci, co]; columns past co are zero.
KERNEL(winograd_weights) {
  const int64_t ci = a.ci, co = a.co, padded = ceil_div(co, WINO_PANEL) * WINO_PANEL, end = tile.end(ci);
  for (int64_t k = tile.begin(ci); k < end; k++)
    for (int64_t j = 0; j < padded; j += LANES) {
      const int part = (int)(co - j < LANES ? (co > j ? co - j : 0) : LANES);
      const float* from = (const float*)a.wt + k * co + j;
      vf g[3][3], rows[6][3];
      for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++) g[y][x] = load_lanes(from + (y * 3 + x) * ci * co, part);
      for (int x = 0; x < 3; x++) {
        const vf column[3] = {g[0][x], g[1][x], g[2][x]};
        vf u[6];
        wino_weight(column, u);
        for (int y = 0; y < 6; y++) rows[y][x] = u[y];
      }
      float* to = (float*)a.u + (j / WINO_PANEL * ci + k) * WINO_PANEL + j % WINO_PANEL;
      for (int y = 0; y < 6; y++) {
        vf u[6];
        wino_weight(rows[y], u);
        for (int x = 0; x < 6; x++) store(to + (y * 6 + x) * ci * padded, u[x]);
      }
    }
}

// Room of one block in scratch: transformed inputs [36][tiles][stride], sums [36][tiles][cols], row pointers and zeros.
struct WinoBlock {
  int64_t tiles, cols;
  float *v, *m, **rows, *zeros;
};
INLINE WinoBlock wino_block(char* scratch, int64_t co, int64_t stride) {
  const int64_t padded = ceil_div(co, WINO_PANEL) * WINO_PANEL, room = 960 << 10;
  WinoBlock b;
  b.cols = least(padded, 128);
  b.tiles = least(48, room / (WINO_POINTS * WINO_TILES * 4 * (stride + b.cols)) * WINO_TILES);
  b.v = (float*)scratch;
  b.m = b.v + WINO_POINTS * b.tiles * stride;
  b.zeros = b.m + WINO_POINTS * b.tiles * b.cols;
  b.rows = (float**)(b.zeros + BLOCK_DEPTH);
  return b;
}
static_assert((960 << 10) + BLOCK_DEPTH * 4 + WINO_POINTS * 48 * 8 <= SCRATCH_BYTES, "scratch");

struct WinoImage {
  const float* x;
  int64_t h, w, ci, top, left;  // of the tile's first input pixel, which may lie outside
};

// One tile's channels [k, k + depth): 36 rows of v, `step` floats apart.
static void wino_transform_input(const WinoImage& image, const float* zeros, int64_t k, int64_t depth, float* v, int64_t step) {
  const float* at[WINO_POINTS];
  for (int y = 0; y < 6; y++)
    for (int x = 0; x < 6; x++) {
      const int64_t iy = image.top + y, ix = image.left + x;
      const bool inside = iy >= 0 && iy < image.h && ix >= 0 && ix < image.w;
      at[y * 6 + x] = inside ? image.x + (iy * image.w + ix) * image.ci + k : zeros;
    }
  for (int64_t c = 0; c < depth; c += LANES) {
    const int part = (int)least(LANES, depth - c);
    vf lines[6][6];
    for (int y = 0; y < 6; y++) {
      vf d[6];
      for (int x = 0; x < 6; x++) d[x] = part == LANES ? load(at[y * 6 + x] + c) : load_part(at[y * 6 + x] + c, part);
      wino_input(d, lines[y]);
    }
    for (int x = 0; x < 6; x++) {
      vf d[6], out[6];
      for (int y = 0; y < 6; y++) d[y] = lines[y][x];
      wino_input(d, out);
      for (int y = 0; y < 6; y++) store(v + (y * 6 + x) * step + c, out[y]);
    }
  }
}

// Columns [0, cols) of one tile's outputs from 36 rows of m; pixels outside the output are left out.
static void wino_transform_output(const float* m, int64_t step, float* y, int64_t cols, int64_t row, int64_t pixel, int64_t high, int64_t wide) {
  for (int64_t c = 0; c < cols; c += LANES) {
    const int part = (int)least(LANES, cols - c);
    vf lines[4][6];
    for (int x = 0; x < 6; x++) {
      vf column[6], out[4];
      for (int r = 0; r < 6; r++) column[r] = load(m + (r * 6 + x) * step + c);
      wino_output(column, out);
      for (int r = 0; r < 4; r++) lines[r][x] = out[r];
    }
    for (int r = 0; r < 4; r++) {
      if (r >= high) break;
      vf out[4];
      wino_output(lines[r], out);
      for (int x = 0; x < 4; x++)
        if (x < wide) store_lanes(y + r * row + x * pixel + c, out[x], part);
    }
  }
}

// All tiles of a block with rows of v `STRIDE` floats apart: at least ci of them (one step of depth), with room against cache set conflicts.
template <int STRIDE>
static void wino_tiles(const winograd_conv2d_args& a, const Tile& tile) {
  const int64_t h = a.h, w = a.w, ci = a.ci, co = a.co, oh = a.oh, ow = a.ow, ys = a.ys;
  const int64_t down = ceil_div(oh, 4), across = ceil_div(ow, 4), all = (int64_t)a.n * down * across;
  const int64_t units = ceil_div(all, WINO_TILES), begin = tile.begin(units) * WINO_TILES, end = least(all, tile.end(units) * WINO_TILES);
  const int64_t padded = ceil_div(co, WINO_PANEL) * WINO_PANEL, step = depth_step(ci);
  const WinoBlock b = wino_block(tile.scratch, co, STRIDE);
  zero_floats(b.zeros, BLOCK_DEPTH);
  const MicroFn multiply = micro<MR, NV, STRIDE, 1>;
  for (int64_t first = begin; first < end; first += b.tiles) {
    const int64_t count = least(b.tiles, end - first), rows = ceil_div(count, WINO_TILES) * WINO_TILES;
    // Rows past the last tile are multiplied with the rest and thrown away.
    for (int64_t i = count; i < rows; i++)
      for (int64_t p = 0; p < WINO_POINTS; p++) zero_floats(b.v + (p * b.tiles + i) * STRIDE, STRIDE);
    for (int64_t col = 0; col < padded; col += b.cols) {
      const int64_t cols = least(b.cols, padded - col);
      for (int64_t k = 0; k < ci; k += step) {
        const int64_t depth = least(step, ci - k);
        if (col == 0 || step < ci)
          for (int64_t i = 0; i < count; i++) {
            const int64_t line = (first + i) / across, image = line / down;
            const int64_t top = (line - image * down) * 4 - (int64_t)a.ph, left = (first + i - line * across) * 4 - (int64_t)a.pw;
            wino_transform_input(WinoImage{(const float*)a.x + image * h * w * ci, h, w, ci, top, left}, b.zeros, k, depth, b.v + i * STRIDE,
                                 b.tiles * STRIDE);
          }
        const Finish finish{1, k > 0, nullptr};
        for (int64_t p = 0; p < WINO_POINTS; p++) {
          for (int64_t i = 0; i < rows; i++) b.rows[i] = b.m + (p * b.tiles + i) * b.cols;
          for (int64_t j = 0; j < cols; j += NR) {
            const int64_t panel = (col + j) / WINO_PANEL, within = (col + j) % WINO_PANEL;
            const float* u = (const float*)a.u + (p * padded + panel * WINO_PANEL) * ci + k * WINO_PANEL + within;
            for (int64_t i = 0; i < rows; i += MR)
              multiply(b.v + (p * b.tiles + i) * STRIDE, u, WINO_PANEL, depth, b.rows + i, j, NR, finish);
          }
        }
      }
      for (int64_t i = 0; i < count; i++) {
        const int64_t line = (first + i) / across, image = line / down;
        const int64_t oy = (line - image * down) * 4, ox = (first + i - line * across) * 4;
        wino_transform_output(b.m + i * b.cols, b.tiles * b.cols, (float*)a.y + ((image * oh + oy) * ow + ox) * ys + (int64_t)a.yo + col,
                              least(cols, co - col), ow * ys, ys, oh - oy, ow - ox);
      }
    }
  }
}

KERNEL(winograd_conv2d) {
  const int64_t depth = depth_step(a.ci);
  if (depth <= 64)
    wino_tiles<64 + 16>(a, tile);
  else if (depth <= 128)
    wino_tiles<128 + 16>(a, tile);
  else
    wino_tiles<ROW_STRIDE>(a, tile);
}
