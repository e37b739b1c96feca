/**
 * All pages: what they are called, where they are, and how they are loaded. The first segment of the path is the page's; what
 * follows is the page's own (`place.value.segments`).
 * @module
 */
import * as icons from "../lib/icons.js";

/**
 * @typedef {object} PageEntry
 * @property {string} name also the module's name, and the path's first segment ("home" is "/")
 * @property {string} title
 * @property {string} path
 * @property {any} icon
 * @property {string} group
 * @property {string} keywords for the command palette
 * @property {() => Promise<{ default: any }>} load
 */

/** @type {PageEntry[]} */
export const pages = [
  { name: "home", title: "Home", path: "/", icon: icons.HomeIcon, group: "", keywords: "overview start set-up status", load: () => import("./home.js") },
  { name: "chat", title: "Chat", path: "/chat", icon: icons.ChatIcon, group: "", keywords: "playground ask", load: () => late("chat") },
  { name: "requests", title: "Requests", path: "/requests", icon: icons.RequestsIcon, group: "Traffic", keywords: "history tail search", load: () => late("requests") },
  { name: "sessions", title: "Sessions", path: "/sessions", icon: icons.SessionsIcon, group: "Traffic", keywords: "conversations", load: () => late("sessions") },
  { name: "statistics", title: "Statistics", path: "/statistics", icon: icons.StatisticsIcon, group: "Traffic", keywords: "cost tokens percentiles", load: () => late("statistics") },
  { name: "providers", title: "Providers", path: "/providers", icon: icons.ProvidersIcon, group: "Routing", keywords: "upstream breaker", load: () => late("providers") },
  { name: "models", title: "Models", path: "/models", icon: icons.ModelsIcon, group: "Routing", keywords: "virtual alias", load: () => late("models") },
  { name: "credentials", title: "Credentials", path: "/credentials", icon: icons.CredentialsIcon, group: "Access", keywords: "qwen login cookies", load: () => late("credentials") },
  { name: "keys", title: "Keys", path: "/keys", icon: icons.KeysIcon, group: "Access", keywords: "api clients budget", load: () => late("keys") },
  { name: "supervision", title: "Supervision", path: "/supervision", icon: icons.SupervisionIcon, group: "System", keywords: "actors tree restart crash", load: () => import("./supervision.js") },
  { name: "activity", title: "Activity", path: "/activity", icon: icons.ActivityIcon, group: "System", keywords: "audit events", load: () => late("activity") },
  { name: "logs", title: "Logs", path: "/logs", icon: icons.LogsIcon, group: "System", keywords: "trace", load: () => late("logs") },
  { name: "settings", title: "Settings", path: "/settings", icon: icons.SettingsIcon, group: "System", keywords: "configuration", load: () => late("settings") },
  { name: "api", title: "API", path: "/reference", icon: icons.ApiIcon, group: "System", keywords: "openapi reference", load: () => late("api") },
];

/** A page that is loaded by its name. @param {string} name @returns {Promise<any>} */
const late = (name) => import(`./${name}.js`);

/** The page of a path; null when there is none. @param {string[]} segments */
export function pageAt(segments) {
  const path = `/${segments[0] ?? ""}`;
  return pages.find((page) => page.path === path) ?? null;
}
