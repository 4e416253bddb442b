op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    let a = 3;
    z[i] = x[i];
}

check small { N = 3; }
