op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    let a = max(N, (7
    z[i = x[i]
    w[i] = x[i + y[i]
    index k in 0 .. N
}
