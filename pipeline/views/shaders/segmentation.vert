#version 330 core

layout(location = 0) in vec3 position;
#ifdef TEXCOORD_0_LOC
layout(location = TEXCOORD_0_LOC) in vec2 texcoord_0;
out vec2 uv;
#endif
layout(location = INST_M_LOC) in mat4 inst_m;

uniform mat4 P;
uniform mat4 V;
uniform mat4 M;

void main()
{
#ifdef TEXCOORD_0_LOC
    uv = texcoord_0;
#endif
    gl_Position = P * V * M * inst_m * vec4(position, 1.0);
}
