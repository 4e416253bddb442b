op f(x: f32[N]) -> z: f32[N]
    where N % 2 = 0
{
    z[i] = x[i]
}

op g(x: f32[N]) -> z: f32[N]
{
    z[i] = x[i] where i = 3
}
