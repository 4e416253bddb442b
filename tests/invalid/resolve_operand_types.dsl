op f(x: f32[N], n: i32[N], p: bool[N]) -> y: f32[N]
{
    y[i] = x[i] // 2 + n[i] % x[i] + p[i] * 2 - select(n[i], 1, 2)
    a[i] = not n[i] and p[i]
    b[i] = x[x[i]] where x[i]
    c[i] = (p[i] < p[i]) == (n[i] != p[i])
    d[i] = sum[j where n[j]](p[j]) + max[j](x[j] < 1)
    e[i] = any[j](x[j])
    g[i] = default(p[i], 0) + exp(p[i])
}
