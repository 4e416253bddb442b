op f(x: f32[N], B: int, H: int) -> y: f32[N]
{
    y[i] = x[i] where x[i] > 0.5
    y[i] = 1 where i * B < H and x[i] < 0.7
    y[i] = 2 where i * B > H and x[i] <= 0.5
}
