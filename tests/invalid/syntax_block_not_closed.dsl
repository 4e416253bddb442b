op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    z[i] = x[i]

op g(x: f32[N]) -> z: f32[N]
{
    scan t in 0 .. N {
        z[t] = x[t]
}
