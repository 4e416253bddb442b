op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    a[i] = x[i] + * 3
    b[i] = x[i] +
    let c = max(1, )
    let d =
    let = 3
    z[i] = y[]
