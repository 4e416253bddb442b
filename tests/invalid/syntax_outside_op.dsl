z[i] = x[i]

op f(x: f32[N]) -> z: f32[N]
{
    z[i] = x[i]
}
where N > 3
