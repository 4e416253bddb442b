op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    z[i] = x[i] where x[i] > 3 where y[i] > 3
}
