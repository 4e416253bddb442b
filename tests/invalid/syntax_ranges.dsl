op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    index k = 0 .. N
    index l in 0 : N
    index m in 0 ... N
    scan t 0 .. N { z[t] = x[t] }
}
