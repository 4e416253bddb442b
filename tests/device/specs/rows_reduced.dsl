# One value of many rows: several of them are in flight at once, and those left over one by one.
op rows_reduced(X: bf16[B, K, R], Y: f32[B, K, R], Z: f32[B, J, K, R]) -> M: f32[B], T: f32[B], L: f32[B] {
    M[b] = max[k, r](rsqrt(R) * X[b,k,r])
    T[b] = sum[k, r](abs(Y[b,k,r]) * abs(X[b,k,r]))
    L[b] = max[j, k, r](Z[b,j,k,r])
}

check one { B = 1, J = 1, K = 1, R = 1 }
check odd { B = 3, J = 2, K = 13, R = 129 }
check whole { B = 2, J = 1, K = 8, R = 128 }
