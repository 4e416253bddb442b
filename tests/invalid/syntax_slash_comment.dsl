// copies
op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    // one by one
    z[i] = x[i] /* all of them */
}
