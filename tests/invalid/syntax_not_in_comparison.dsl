op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    z[i] = x[i] where x[i] > 0 == not y[i] > 0
}
