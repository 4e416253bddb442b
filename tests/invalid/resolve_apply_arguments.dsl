op scale(x: bf16[M, N], gain: f32, W: int = 1) -> y: bf16[M, N], total: f32[M]
    where W > 0
{
    y[i, j] = gain * x[i, j]
    total[i] = sum[j](x[i, j])
}

op f(x: bf16[M, N]) -> y: bf16[M, N]
{
    a, b = scale(x)
    c, d = scale(x, 1, 2, 3)
    e = scale(x, 1)
    g, h = scale(x, gian = 1)
    i, j = scale(gain = 1, x)
    k, l = scale(x, 1, gain = 2)
    m, n = scale(2 * M, 1)
    o, p = scale(x, x)
    q, r = scael(x, 1)
    s, t = scale(gain = 1)
    y[u, v] = x[u, v]
}
