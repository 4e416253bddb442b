op g(x: f32[N]) -> y: f32[N]
{
    y[i] = x[i]
}

op f(x: f32[N]) -> y: f32[N]
{
    y[i] = exp(x[i], 1) + max(x[i]) + clamp(x = x[i], 0, 1) + g(x[i]) + bf16() + relo(x[i]) + default(x[i])
}
