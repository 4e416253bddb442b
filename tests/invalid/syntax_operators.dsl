op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    a[i] = x[i] ** 2
    b[i] = x[i] =< 2
    c[i] = x[i] <> 2
    z[i] += x[i]
}
