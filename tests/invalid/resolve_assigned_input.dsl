op f(x: f32[N]) -> y: f32[N]
{
    x[i] = 2 * x[i]
    y[i] = x[i]
}
