fn half(n) = n // 2

op f(x: f32[N]) -> y: f32[N]
{
    y[i] = half(x[i]) + half(i) + half(i, i)
}
