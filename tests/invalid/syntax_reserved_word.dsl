op f(state: f32[N], param: f32[N]) -> z: f32[N]
{
    z[i] = state[i]
}

op g(x: f32[N]) -> z: f32[N]
{
    let sum = 3
    index[i] = x[i]
    z[i] = x[op]
}
