op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    let a = 2 N
    b[i] = (2 x[i])
    c[i] = 2 x[i]
    d[i] = (x[i]) (y[i])
    z[i] = max(x[i] y[i])
}
