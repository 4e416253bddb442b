op f(x: f32[N]) -> y: f32[N], z: f32[N]
{
    y[i] = x[i] where i % 4 == 1
    y[i] = 2 * x[i] where i % 2 == 1 and i // 4 >= 1
    z[i] = x[i] where i % 2 == 0
    z[i] = 2 * x[i] where i % 4 == 3 or i % 4 == 1
}
