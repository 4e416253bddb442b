op f(x: f32[N]) -> y: f32[N]
{
    let Z = 3 - 3
    y[i] = x[i // 0] + x[i % Z] + x[i // (N - N)]
}
