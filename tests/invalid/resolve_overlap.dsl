op f(x: f32[H, N], Hs: int) -> y: f32[H, N], z: f32[H, N]
    where 0 <= Hs <= H
{
    y[h, n] = x[h, n] where h <= Hs
    y[g, m] = 2 * x[g, m] where g >= Hs
    z[h, n] = x[h, n]
    z[h, n] = x[h, n]
}
