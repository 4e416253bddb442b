op f(x: f32[N]) -> y: f32[N]
{
    a[i]: bf16 = x[i] where i < 1
    a[i]: f16 = x[i] where i >= 1
    b[i]: bfloat16 = x[i]
    y[i]: bf16 = a[i]
}
