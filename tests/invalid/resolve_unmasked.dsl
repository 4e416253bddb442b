# A masked score plus a bias, by five roads.
op f(x: f32[N, N], bias: f32[N, N]) -> y: f32[N, N], z: f32[N], c: f32[N, N], d: f32[N, N]
{
    S[q, k] = x[q, k] where k <= q
    T[q, k] = S[q, k] + bias[q, k]
    y[q, k] = softmax[k](2 * T[q, k])
    z[q] = max[k](S[q, k] - bias[q, k])
    c[q, k] = exp(S[q, k] + bias[q, k])
    d[q, k] = select(T[q, k] > 0, S[q, k], bias[q, k])
}
