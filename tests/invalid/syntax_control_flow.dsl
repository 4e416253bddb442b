op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    if x[i] > 3 {
        z[i] = 3
    } else {
        z[i] = 4
    }
    for t in 0 .. N {
        z[t] = 3
    }
}

op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    z[i] = x[i] if x[i] > 0 else 3
    return z
}
