// One step of an optimiser over one parameter array.
#pragma once

// AdamW (Loshchilov and Hutter, 2019).
KERNEL(adamw) {
  float *p = a.p, *m = a.m, *v = a.v;
  const float* g = a.g;
  const double lr = a.lr.wide();
  const float keep = (float)(1.0 - lr * a.weightDecay.wide()), step = (float)(lr / a.bias1.wide());
  const float beta1 = a.beta1, beta2 = a.beta2, fresh1 = (float)(1.0 - a.beta1.wide()), fresh2 = (float)(1.0 - a.beta2.wide());
  const float root = (float)(1.0 / sqrt_double(a.bias2.wide())), eps = a.eps, grad_scale = a.gradScale;
  const int64_t end = tile.end(a.n);
  for (int64_t i = tile.begin(a.n); i < end; i += LANES) {
    const int n = end - i < LANES ? (int)(end - i) : LANES;
    vf grad = load_lanes(g + i, n) * grad_scale;
    vf first = load_lanes(m + i, n) * beta1 + grad * fresh1;
    vf second = load_lanes(v + i, n) * beta2 + grad * grad * fresh2;
    store_lanes(m + i, first, n);
    store_lanes(v + i, second, n);
    store_lanes(p + i, load_lanes(p + i, n) * keep - step * first / (vsqrt(second) * root + eps), n);
  }
}

// Stochastic gradient descent with momentum, as PyTorch defines it.
KERNEL(sgd) {
  float *p = a.p, *buf = a.buf;
  const float* g = a.g;
  const float lr = a.lr, momentum = a.momentum, fresh = (float)(1.0 - a.dampening.wide()), decay = a.weightDecay, grad_scale = a.gradScale;
  const bool nesterov = a.nesterov, first = a.first;
  const int64_t end = tile.end(a.n);
  for (int64_t i = tile.begin(a.n); i < end; i += LANES) {
    const int n = end - i < LANES ? (int)(end - i) : LANES;
    vf param = load_lanes(p + i, n), grad = load_lanes(g + i, n) * grad_scale + decay * param, step = grad;
    if (buf) {
      vf velocity = first ? grad : momentum * load_lanes(buf + i, n) + fresh * grad;
      store_lanes(buf + i, velocity, n);
      step = nesterov ? grad + momentum * velocity : velocity;
    }
    store_lanes(p + i, param - lr * step, n);
  }
}
