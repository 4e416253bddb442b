dtype T in bf16, half, bf16
dtype f32 in bf16, f16
dtype T in f32

op f(x: t[N], s: T, n: int32) -> y: f64[N]
{
    y[i] = x[i]
}
