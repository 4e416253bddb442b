op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    z[i] = x[i]) + y[i]
}
}
