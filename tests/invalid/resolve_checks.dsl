op f(x: f32[N], y: f32[2 * N], W: int, cap: f32 = 0.5) -> z: f32[N // W]
    where N >= W
{
    z[i] = cap * x[i * W] + y[2 * i]
}

check missing { N = 4 }
check half { N = 4.5, W = 2 }
check violated { N = 4, W = 5 }
check zero { N = 4, W = 0 }
check negative { N = -1, W = -1 }
check huge { N = 2147483647, W = 1 }
check names { N = M, W = 1 }
check right { N = 4, W = 2, cap = 2 }
check typo { N = 4, W = 2, Cap = 2 }
