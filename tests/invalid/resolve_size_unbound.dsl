op f(x: f32[2 * C, N]) -> y: f32[C, P]
{
    y[c, n] = x[c, n]
}
