op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    let a = 2x
    let b = 0x10
    z[i] = x[i] * 1. + .5
}
