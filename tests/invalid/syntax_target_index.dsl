op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    z[0] = x[0]
    z[i + 1] = x[i]
    z[i][j] = y[i]
    z[i,] = y[i]
}
