op f(x: f32[N], Kc: f32[N]) -> C: f32[N] updates Kc
{
    C[i] = x[i]
}
